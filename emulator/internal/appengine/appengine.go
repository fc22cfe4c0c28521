// Package appengine has the rules of App Engine targets that both the API
// and the dispatch need: hosts, headers, addresses (docs/cloud-tasks.md#11).
package appengine

import (
	"strconv"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/names"
	"github.com/brillconsulting/handoff/internal/wire"
)

const defaultService = "default"

// Service returns the service that a routing selects.
func Service(r *cloudtaskspb.AppEngineRouting) string {
	if r.GetService() == "" {
		return defaultService
	}
	return r.GetService()
}

// Host returns the host of a task's target:
// [instance.][version.][service.]PROJECT.REGION.r.appspot.com.
func Host(queue string, r *cloudtaskspb.AppEngineRouting) string {
	q, _ := names.ParseQueue(queue)
	var labels []string
	for _, label := range []string{r.GetInstance(), r.GetVersion(), r.GetService()} {
		if label != "" && label != defaultService {
			labels = append(labels, label)
		}
	}
	labels = append(labels, q.Project, region(q.Location), "r.appspot.com")
	return strings.Join(labels, ".")
}

// region returns the short code of a location in App Engine's host names. Google
// publishes no list: the codes follow the known ones, uc for us-central1 and ew
// for europe-west1.
func region(location string) string {
	area, rest, _ := strings.Cut(location, "-")
	if area == "" || rest == "" {
		return "uc"
	}
	return area[:1] + rest[:1]
}

// Headers returns the headers of a task as the service stores and sends them
// (docs/cloud-tasks.md#8.7, #11.3): the caller's, with the service's User-Agent
// appended, and Content-Length and Content-Type for a body.
func Headers(r *cloudtaskspb.AppEngineHttpRequest) map[string]string {
	headers := make(map[string]string, len(r.GetHeaders())+3)
	agent, typed := wire.UserAgentAppEngine, false
	for name, value := range r.GetHeaders() {
		switch {
		case strings.EqualFold(name, "User-Agent"):
			agent = value + " " + wire.UserAgentAppEngine
			continue
		case strings.EqualFold(name, "Content-Type"):
			typed = true
		}
		headers[name] = value
	}
	headers["User-Agent"] = agent
	if len(r.GetBody()) > 0 {
		headers["Content-Length"] = strconv.Itoa(len(r.GetBody()))
		if !typed {
			headers["Content-Type"] = "application/octet-stream"
		}
	}
	return headers
}

// Addresses are the base URLs of services: by SERVICE, SERVICE/VERSION or
// SERVICE/VERSION/INSTANCE.
type Addresses map[string]string

// Lookup returns the most specific address. Without one, it returns that of the
// default service, as App Engine does.
func (a Addresses) Lookup(service, version, instance string) (string, bool) {
	if service == "" {
		service = defaultService
	}
	for _, key := range []string{service + "/" + version + "/" + instance, service + "/" + version, service, defaultService} {
		if base, ok := a[key]; ok {
			return strings.TrimSuffix(base, "/"), true
		}
	}
	return "", false
}
