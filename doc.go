// Package handoff hands typed payloads to Google Cloud Tasks and receives them
// in plain functions.
package handoff
