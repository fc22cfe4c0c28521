package create_test

import (
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/create"
)

// The error for a URL never quotes parts that may be secret.
func TestURLErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"https://h.example/in?token=S3CRET#top":                "https://h.example",
		"https://h.example/S3CRET#top":                         "https://h.example",
		"https://user:S3CRET@h.example/in":                     "credentials",
		"https://user:S3CRET@h.example:port/in":                "port",
		"https://user:S3CRET%zz@h.example/in":                  "h.example",
		"https://user:S3CRET/x@h.example/in":                   "port",
		"https://user:12/S3CRET@h.example/in#x":                "fragment",
		"https://user:S3CRET@[::1/in":                          "",
		"https://h.example/%zz?token=S3CRET":                   "%25",
		"h.example/in?token=S3CRET":                            "without a scheme",
		"user:S3CRET@h.example":                                "without a scheme",
		"https://h ex\x01ample/in?S3CRET":                      "",
		"ftp://h.example/S3CRET":                               "ftp://h.example",
		"https://h.example/S3CRET" + strings.Repeat("x", 2100): "2083",
		"https:///S3CRET":                                      "names no host",
		"https://:8080/S3CRET":                                 "names no host",
	} {
		_, err := create.URL(raw)
		if err == nil || strings.Contains(err.Error(), "S3CRET") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, uri := range []string{"in?token=S3CRET", "/in?token=S3CRET#top", "/%zz?token=S3CRET", "/in?S3CRET\x7f"} {
		if err := create.RelativeURI(uri); err == nil || strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
