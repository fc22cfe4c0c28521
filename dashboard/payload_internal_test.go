package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// A deep payload is not indented, because that grows with the square of the depth.
func TestDeepPayload(t *testing.T) {
	for _, deep := range []string{
		strings.Repeat("[", 9_900) + strings.Repeat("]", 9_900),
		strings.Repeat(`{"a":`, 9_900) + "1" + strings.Repeat("}", 9_900),
		strings.Repeat("[1,", 9_900) + "1" + strings.Repeat("]", 9_900),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := payloadOf([]byte(deep), "application/json")
		runtime.ReadMemStats(&after)
		if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 2 {
			t.Errorf("a payload of %d bytes took %d MiB to show", len(deep), allocated)
		}
		if p.Text != deep || p.Form != "text (application/json)" {
			t.Errorf("shown as %s, %d bytes", p.Form, len(p.Text))
		}
	}
}

// FuzzIndentedSize compares the estimate with json.Indent.
func FuzzIndentedSize(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `{"a":[1,2,{"b":"[\\\"{"}]}`, `"\\"`, `[[[[]]]]`, ` { "a" : 1 } `, `}}[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var indented bytes.Buffer
		estimate := indentedSize(body)
		if json.Indent(&indented, body, "", indent) == nil && indented.Len() > estimate {
			t.Errorf("%q becomes %d bytes, estimated %d", body, indented.Len(), estimate)
		}
	})
}

func TestCredentialsAreHidden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "X-Serverless-Authorization", "X-Forwarded-Authorization", "X-Original-Authorization",
		"X-Forwarded-Access-Token", "X-Auth-Request-Access-Token", "Cookie", "X-Api-Key", "X-Functions-Key", "Ocp-Apim-Subscription-Key",
		"X-Goog-Iap-Jwt-Assertion", "X-Goog-Authenticated-User-Email", "Cf-Access-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Accesstoken",
		"X-Amz-Security-Token", "X-Ms-Client-Principal", "X-Ms-Token-Aad-Id-Token", "X-Forwarded-Client-Cert", "X-Ssl-Client-Cert",
		"X-Hub-Signature-256", "X-Session-Id", "X-Csrf-Token", "Db-Password",
	} {
		if lines := headerLines(http.Header{name: {"S3CRET"}}); !lines[0].Hidden || lines[0].Value != "" {
			t.Errorf("%s is shown", name)
		}
	}
	for _, value := range []string{"Bearer S3CRET", "basic S3CRET", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "Digest username=x"} {
		if lines := headerLines(http.Header{"X-Upstream": {value}}); !lines[0].Hidden {
			t.Errorf("%q is shown", value)
		}
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Traceparent": "00-1-2-01", "Idempotency-Key": "order-1", "X-Note": "basic", "Handoff-Kind": "welcome",
		"X-Goog-Channel-Id": "4ba78bf0", "User-Agent": "Google-Cloud-Tasks",
	} {
		if lines := headerLines(http.Header{name: {value}}); lines[0].Hidden {
			t.Errorf("%s: %s is hidden", name, value)
		}
	}
}
