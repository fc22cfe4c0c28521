// Package telemetry tests what package middleware traces and counts, with
// OpenTelemetry's own SDK: the users of handoff choose theirs, or none.
package telemetry
