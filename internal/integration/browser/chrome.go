// Package browser drives the dashboard in a real Chromium, for the tests here and
// for the command in screenshots. It needs Debian's package chromium.
package browser

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// ReboundName is the name of another site that resolves to this machine.
const ReboundName = "rebound.example"

// NetworkName is a name of another machine in the local network. It resolves to
// this one.
const NetworkName = "emulator.internal"

// Find returns the path of Chromium, or "" if it is not installed.
func Find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Start runs a Chromium until the returned function is called. profile is the
// folder for its profile and must be empty. Each chromedp.NewContext of the
// returned context is a tab.
func Start(ctx context.Context, path, profile string) (context.Context, context.CancelFunc, error) {
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Headless,
		chromedp.NoSandbox, // with a sandbox it does not start as root, which CI is
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		// No requests but those of the pages under test.
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("hide-scrollbars", true),
		// As after DNS rebinding: another site's name resolves to this machine.
		chromedp.Flag("host-resolver-rules", "MAP "+ReboundName+" 127.0.0.1, MAP "+NetworkName+" 127.0.0.1"),
		// A tab in the background must run as if it were in front.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		// Tabs crash when /dev/shm is small, as in a container.
		chromedp.Flag("disable-dev-shm-usage", true),
	}
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, _ = chromedp.NewContext(ctx) // cancelled by stop
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("browser: start %s: %w", path, err)
	}
	return ctx, stop, nil
}

// Command returns an action for a protocol command for which chromedp has none.
func Command[P any](command cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, command, params)
		return err
	})
}
