// Package sql tries package sqlstore on real databases, with the drivers that its
// users have: they are no part of the module for users.
package sql
