package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

// page is a page to take pictures of.
type page struct {
	name string
	url  string
	kept bool // shown in the documents: light and wide, and the first also dark
	full bool // the whole page, not only the visible part
}

const queues = "/queues/demo/europe-west1/"

func (w *world) pages() []page {
	at := func(path string) string { return w.server.URL + path }
	pages := []page{
		{name: "queues", url: at("/"), kept: true},
		{name: "queue", url: at(queues + "emails"), kept: true},
		{name: "queue-slow", url: at(queues + "invoices"), full: true},
		{name: "queue-search", url: at(queues + "webhooks?status=retrying")},
		{name: "queue-paused", url: at(queues + "reports")},
		{name: "purge", url: at(queues + "invoices/purge")},
		{name: "dead", url: at("/dead"), kept: true},
		{name: "dead-search", url: at("/dead?kind=invoice&q=deadlock")},
		{name: "letter", url: at("/dead/letter?id=Zq01k7xPvR3mW9sT1uY62b&payload=shown")},
		{name: "redrive", url: at("/dead/redrive?kind=invoice")},
		{name: "problem", url: at(queues + "missing")},
	}
	if name := w.tried(); name != "" {
		pages = append(pages, page{name: "task-ended", url: at(queues + name), kept: true})
	}
	for _, t := range w.srv.Tasks("reports") { // of the queue that is paused: it stays
		_, id, _ := strings.Cut(t.GetName(), "/tasks/")
		pages = append(pages, page{name: "task-waiting", url: at(queues + "reports/tasks/" + id + "?payload=shown")},
			page{name: "delete", url: at(queues + "reports/tasks/" + id + "/delete")})
		break
	}
	return pages
}

// tried returns the name, as queue/tasks/ID, of a task with an interesting history.
func (w *world) tried() string {
	for _, l := range w.srv.Ended("webhooks", 200) {
		differ := slices.ContainsFunc(l.Dispatches, func(a emulator.Dispatch) bool { return a.Status == 502 })
		if len(l.Dispatches) > 2 && differ {
			_, id, _ := strings.Cut(l.Name, "/tasks/")
			return "webhooks/tasks/" + id
		}
	}
	return ""
}

// shoot takes the pictures of one page.
func shoot(ctx context.Context, p page, out, keep string) error {
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			picture, err := take(ctx, p, width, scheme)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%s-%s-%s.png", p.name, map[int64]string{1280: "wide", 390: "narrow"}[width], scheme)
			if err := os.WriteFile(filepath.Join(out, name), picture, 0o644); err != nil {
				return err
			}
			log.Print(name)
			if keep == "" || !p.kept || width != 1280 || scheme == "dark" && p.name != "queue" {
				continue
			}
			if err := os.WriteFile(filepath.Join(keep, strings.ReplaceAll(name, "-wide", "")), picture, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func take(ctx context.Context, p page, width int64, scheme string) ([]byte, error) {
	tab, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	height := int64(900)
	if width < 500 {
		height = 1400
	}
	err := chromedp.Do(tab,
		browser.Command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
		}),
		browser.Command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		chromedp.Navigate(p.url),
		chromedp.WaitVisible("h1"),
		chromedp.Sleep(1500*time.Millisecond), // so that a live page shows that it is live
	)
	if err != nil {
		return nil, err
	}
	if p.full {
		return chromedp.Run(tab, chromedp.FullScreenshot(100))
	}
	return chromedp.Run(tab, chromedp.CaptureScreenshot())
}
