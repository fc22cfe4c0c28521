// Package clients runs clients of other languages against the emulator:
// Google's Node client and gcloud.
//
// A client that is not installed skips its test, unless
// HANDOFF_REQUIRE_CLIENTS is set, as it is in CI: then a missing Node is a
// failure. gcloud is run where it is present; what it sends is replayed
// everywhere by the emulator's own tests.
package clients
