// Package clients runs clients of other languages against the emulator:
// Google's Node client and gcloud.
//
// The test of a client that is not installed is skipped. With
// HANDOFF_REQUIRE_CLIENTS, which CI sets, a missing Node is a failure. gcloud stays
// optional, because the emulator's own tests replay its requests.
package clients
