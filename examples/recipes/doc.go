// Package recipes has the code of docs/recipes.md.
package recipes
