package conformance_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

func oidc(email, audience string) *cloudtaskspb.HttpRequest_OidcToken {
	return &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: email, Audience: audience}}
}

// caller is the account that most tokens are for.
const caller = "caller@p.iam.gserviceaccount.com"

func withOIDC(audience string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.AuthorizationHeader = oidc(caller, audience) })
}

// decodeToken reads the parts of the token that a dispatch carries.
func (b *bench) decodeToken(d dispatch) (token string, head, claims map[string]any) {
	b.Helper()
	token, ok := strings.CutPrefix(header(d, "Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		b.Fatal("the dispatch carries no ID token")
	}
	for i, into := range []*map[string]any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		b.ok(err)
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		b.ok(dec.Decode(into))
	}
	return token, head, claims
}

func (b *bench) claims(d dispatch) map[string]any {
	b.Helper()
	_, _, claims := b.decodeToken(d)
	return claims
}

func TestTokens(t *testing.T) {
	conform(t, []rule{
		{"10.2", "the claims", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withOIDC("https://audience.example")))
			got := w.one()
			_, head, claims := b.decodeToken(got)
			b.equal(head["alg"], any("RS256"))
			b.equal(head["typ"], any("JWT"))
			b.equal(claims["iss"], any("https://accounts.google.com"))
			b.equal(claims["aud"], any("https://audience.example"))
			b.equal(claims["email"], any(caller))
			b.equal(claims["email_verified"], any(true))
			b.equal(claims["azp"], claims["sub"])
			if sub, _ := claims["sub"].(string); strings.Trim(sub, "0123456789") != "" || sub == "" {
				b.Fatalf("sub %q is not a numeric ID", sub)
			}
			b.equal(len(claims), 8)
			iat, exp := number(b, claims["iat"]), number(b, claims["exp"])
			b.equal(exp-iat, int64(3600))
			b.equal(iat, got.at.Unix())
		}},
		{"10.2", "Google's own library accepts it with the published keys", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withOIDC("aud")))
			token, _, _ := b.decodeToken(w.one())
			validator, err := idtoken.NewValidator(b.ctx, option.WithHTTPClient(&http.Client{Transport: b.keys()}))
			b.ok(err)
			_, err = validator.Validate(b.ctx, token, "aud")
			b.ok(err)
			if _, err = validator.Validate(b.ctx, token, "other"); err == nil {
				b.Fatal("accepted for another audience")
			}
		}},
		{"10.1", "the default audience is the target URI, path and query as given", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url+"a%2Fb?x=1", withOIDC("")))
			b.equal(b.claims(w.one())["aud"], any(w.url+"a%2Fb?x=1"))
		}},
		{"10.2", "made at dispatch: a task a month ahead carries a fresh one", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withOIDC("aud"), schedule(time.Now().Add(719*time.Hour))))
			got := w.after(720 * time.Hour)
			b.equal(len(got), 1)
			b.equal(number(b, b.claims(got[0])["iat"]), got[0].at.Unix())
		}},
		{"10.1", "an OAuth token is sent as a bearer", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OauthToken{OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: caller}}
			})))
			auth := header(w.one(), "Authorization")
			if !strings.HasPrefix(auth, "Bearer ya29.") {
				b.Fatal("no access token")
			}
		}},
	})
}

func number(b *bench, v any) int64 {
	b.Helper()
	n, ok := v.(json.Number)
	if !ok {
		b.Fatalf("%v is a %T, want a number", v, v)
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	b.ok(err)
	return i
}
