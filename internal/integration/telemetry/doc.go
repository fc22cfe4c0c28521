// Package telemetry tests what package middleware traces and counts, with
// OpenTelemetry's own SDK. It is a module of its own because the users of
// handoff choose their SDK, or none.
package telemetry
