package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/emulator"
)

// partner is a customer's server. It says when to come back at first.
func partner() http.HandlerFunc {
	var calls atomic.Int32
	return func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}
}

// sendContact enqueues what the CRM enqueues, which knows nothing of handoff.
func sendContact(ctx context.Context, tasks *emulator.Server, url string) error {
	_, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: "projects/" + project + "/locations/" + location + "/queues/contacts",
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			HttpMethod: cloudtaskspb.HttpMethod_PUT,
			Url:        url + "/crm/contacts/42",
			Headers:    map[string]string{"Content-Type": "application/xml"},
			Body:       []byte(`<contact mail="ada@example.com"/>`),
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: crmAccount, Audience: url,
			}},
		}}},
	})
	return err
}

// post is a customer's request.
func post(ctx context.Context, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("service: POST %s: %s", url, resp.Status)
	}
	return nil
}

// trade does what a day brings.
func trade(ctx context.Context, tasks *emulator.Server, url string, thumbnails int) error {
	return errors.Join(
		post(ctx, url+"/orders", `{"order": "1001", "cents": 4200, "mail": "ada@example.com"}`),
		post(ctx, url+"/orders", `{"order": "1001", "cents": 4200, "mail": "ada@example.com"}`), // a second click
		post(ctx, url+"/orders", `{"order": "1002", "cents": 0, "mail": "bob@example.com"}`),    // will be declined
		post(ctx, url+"/webhooks", `{"url": "`+url+`/partner", "event": {"order": "1001"}}`),
		post(ctx, url+"/exports", `{"tenant": "acme"}`),
		sendContact(ctx, tasks, url),
		post(ctx, fmt.Sprint(url, "/thumbnails?n=", thumbnails), ""),
	)
}
