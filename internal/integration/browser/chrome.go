// Package browser drives the dashboard in a real Chromium: its tests are here,
// and so is what takes the screenshots. It needs Debian's package chromium.
package browser

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// ReboundName is a name of another site that leads to this machine.
const ReboundName = "rebound.example"

// NetworkName is a name of another machine in the local network. It leads to this one.
const NetworkName = "emulator.internal"

// Find returns where Chromium is, "" if there is none.
func Find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Start runs a Chromium with a profile of its own, in profile, which must be
// empty, until the function that it returns is called. Contexts made from its
// context by chromedp.NewContext are tabs.
func Start(ctx context.Context, path, profile string) (context.Context, context.CancelFunc, error) {
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Headless,
		chromedp.NoSandbox, // as root, as in CI, it does not start with it
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		// It shall ask for nothing but our pages.
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("hide-scrollbars", true),
		// As after DNS rebinding: another site's name leads to this machine.
		chromedp.Flag("host-resolver-rules", "MAP "+ReboundName+" 127.0.0.1, MAP "+NetworkName+" 127.0.0.1"),
		// A tab behind another one works on as if it were in front.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		// A small /dev/shm, as in a container, makes tabs crash.
		chromedp.Flag("disable-dev-shm-usage", true),
	}
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, _ = chromedp.NewContext(ctx) // stop ends it too
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("browser: start %s: %w", path, err)
	}
	return ctx, stop, nil
}

// Command is an action that runs a command of the protocol for which chromedp
// has no action.
func Command[P any](command cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, command, params)
		return err
	})
}
