// Package telemetry tests the traces and metrics of package middleware with
// OpenTelemetry's SDK. It lives in this module because users of handoff choose
// their own SDK, or none.
package telemetry
