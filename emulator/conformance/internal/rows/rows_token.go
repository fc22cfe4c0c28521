package rows

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

// caller is the account of most tokens.
const caller = "caller@p.iam.gserviceaccount.com"

// needsHTTPS is the error of a token on an http URL.
const needsHTTPS = "HttpRequest.url must start with 'https://' for request with HttpRequest.authorization_header"

func oidc(email, audience string) *cloudtaskspb.HttpRequest_OidcToken {
	return &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: email, Audience: audience}}
}

func withOIDC(audience string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.AuthorizationHeader = oidc(caller, audience) })
}

func withOAuth(scope string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) {
		r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OauthToken{OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: caller, Scope: scope}}
	})
}

// tokenTask creates a task with a token for a worker, which has no certificate.
// It skips the row where the server refuses that, as the service does.
func (b *fixture) tokenTask(queue string, task *cloudtaskspb.Task) {
	b.Helper()
	err := b.createTask(queue, task)
	if got := outcomeOf(err); got.code == codes.InvalidArgument && strings.HasPrefix(got.message, needsHTTPS) {
		b.Skipf("the server takes tokens for https only, as the service does, and the workers here have no certificate")
	}
	b.ok(err)
}

// decodeToken reads the header and the claims of the token of a dispatch.
func (b *fixture) decodeToken(d dispatch) (head, claims map[string]any) {
	b.Helper()
	token, ok := strings.CutPrefix(header(d, "Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		b.Fatalf("the dispatch carries no ID token")
	}
	for i, into := range []*map[string]any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		b.ok(err)
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		b.ok(dec.Decode(into))
	}
	return head, claims
}

// tokened is a row's test for the token of a dispatch.
func tokened(audience string, see func(b *fixture, d dispatch, head, claims map[string]any)) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.tokenTask(b.queue(), httpTask(w.url+"a%2Fb?x=1", withOIDC(audience)))
		d := w.one()
		head, claims := b.decodeToken(d)
		see(b, d, head, claims)
	}
}

// claimed is a row's test for a claim.
func claimed(name string, want any) func(*fixture) {
	return tokened("https://audience.example", func(b *fixture, _ dispatch, _, claims map[string]any) { b.equal(claims[name], want) })
}

// tokenTable is about tokens (docs/cloud-tasks.md#10, #9.7, #9.8).
var tokenTable = []Row{
	{"10.1", Documented, "the audience is that of the task", claimed("aud", "https://audience.example")},
	{"10.1", Inferred, "the default audience is the URL, path and query included", tokened("", func(b *fixture, d dispatch, _, claims map[string]any) {
		b.equal(claims["aud"], "http://"+d.Host+"/a%2Fb?x=1")
	})},
	{"10.1", Documented, "an OAuth token is sent as a bearer", func(b *fixture) {
		w := b.worker(nil)
		b.tokenTask(b.queue(), httpTask(w.url, withOAuth("")))
		if token, ok := strings.CutPrefix(header(w.one(), "Authorization"), "Bearer "); !ok || token == "" {
			b.Fatalf("the dispatch carries no token")
		}
	}},
	{"10.1", Documented, "GetTask shows the account and the audience", func(b *fixture) {
		b.local("the account does not exist")
		task := b.task(b.pausedQueue(), httpTask(example, withOIDC("aud")))
		b.equal(task.GetHttpRequest().GetOidcToken().GetServiceAccountEmail(), caller)
		b.equal(task.GetHttpRequest().GetOidcToken().GetAudience(), "aud")
	}},
	{"10.2", Documented, "iss", claimed("iss", "https://accounts.google.com")},
	{"10.2", Documented, "email is the account", claimed("email", caller)},
	{"10.2", Documented, "email_verified is true", claimed("email_verified", true)},
	{"10.2", Observed, "azp is sub", tokened("aud", func(b *fixture, _ dispatch, _, claims map[string]any) { b.equal(claims["azp"], claims["sub"]) })},
	{"10.2", Documented, "sub is the numeric ID of the account", tokened("aud", func(b *fixture, _ dispatch, _, claims map[string]any) {
		if sub, _ := claims["sub"].(string); strings.Trim(sub, decimal) != "" || sub == "" {
			b.Fatalf("sub %q", sub)
		}
	})},
	{"10.2", Documented, "iat and exp are integers, an hour apart", tokened("aud", func(b *fixture, _ dispatch, _, claims map[string]any) {
		b.equal(number(b, claims["exp"])-number(b, claims["iat"]), int64(3600))
	})},
	{"10.2", Documented, "the token is valid when it arrives", tokened("aud", func(b *fixture, d dispatch, _, claims map[string]any) {
		if at := d.at.Unix(); number(b, claims["iat"]) > at+5 || number(b, claims["exp"]) < at {
			b.Fatalf("arrived at %d: %v", at, claims)
		}
	})},
	{"10.2", Documented, "no claim names the queue or the task", tokened("aud", func(b *fixture, _ dispatch, _, claims map[string]any) {
		b.equal(len(claims), 8)
	})},
	{"10.2", Documented, "alg is RS256", tokened("aud", func(b *fixture, _ dispatch, head, _ map[string]any) { b.equal(head["alg"], "RS256") })},
	{"10.2", Documented, "typ is JWT", tokened("aud", func(b *fixture, _ dispatch, head, _ map[string]any) { b.equal(head["typ"], "JWT") })},
	{"10.2", Documented, "kid names a key", tokened("aud", func(b *fixture, _ dispatch, head, _ map[string]any) {
		if kid, _ := head["kid"].(string); kid == "" {
			b.Fatalf("header %v", head)
		}
	})},
	{"9.7", Inferred, "without a token the task's own Authorization arrives", sendsHeader("Authorization", "Basic mine", "Basic mine")},
	{"9.7", Documented, "a token replaces the task's own Authorization", func(b *fixture) {
		w := b.worker(nil)
		b.tokenTask(b.queue(), httpTask(w.url, withOIDC("aud"), withHeaders(map[string]string{"Authorization": "Basic mine"})))
		if got := header(w.one(), "Authorization"); strings.Contains(got, "mine") || !strings.HasPrefix(got, "Bearer ") {
			b.Fatalf("the task's own Authorization arrived")
		}
	}},
	{"9.7", Documented, "a token of the queue is sent", queueToken("queue", nil)},
	{"9.7", Documented, "a token of the queue beats the task's Authorization", queueToken("queue", withHeaders(map[string]string{"Authorization": "Basic mine"}))},
	{"9.7", Documented, "a token of the queue beats the task's token", queueToken("queue", withOIDC("task"))},
	{"9.8", Documented, "oidc_token without an email", refusedQueue(target(queueOIDC("", "aud")))},
	{"9.8", Documented, "oidc_token without an audience", refusedQueue(target(queueOIDC(caller, "")))},
	{"9.8", Documented, "oauth_token without an email", refusedQueue(target(queueOAuth("", "scope")))},
	{"9.8", Documented, "oauth_token without a scope", refusedQueue(target(queueOAuth(caller, "")))},
}

func tokenRows() []Row {
	rows := slices.Clone(tokenTable)
	for _, u := range []string{"http://example.com/", "http://8.8.8.8/", "http://[2001:4860:4860::8888]/", "HTTP://example.com/", "http://localhost/", "http://127.0.0.1/"} {
		rows = append(rows,
			Row{"10.1", Observed, "an OIDC token for " + u, refusedTask(withURL(u), withOIDC("aud"))},
			Row{"10.1", Observed, "an OAuth token for " + u, refusedTask(withURL(u), withOAuth(""))})
	}
	return rows
}

// queueToken is a row's test for a queue that adds a token.
func queueToken(audience string, own func(*cloudtaskspb.Task)) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.tokenTask(b.pausedQueue(), httpTask(w.url, withOIDC("aud"))) // a token of the queue is refused only at the dispatch
		task := httpTask(w.url)
		if own != nil {
			own(task)
		}
		queue := b.queue(target(queueOIDC("queue@p.iam.gserviceaccount.com", audience)))
		b.tokenTask(queue, task)
		_, claims := b.decodeToken(w.one())
		b.equal(claims["aud"], audience)
		b.equal(claims["email"], "queue@p.iam.gserviceaccount.com")
	}
}

func queueOIDC(email, audience string) *cloudtaskspb.HttpTarget {
	return &cloudtaskspb.HttpTarget{AuthorizationHeader: &cloudtaskspb.HttpTarget_OidcToken{
		OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: email, Audience: audience},
	}}
}

func queueOAuth(email, scope string) *cloudtaskspb.HttpTarget {
	return &cloudtaskspb.HttpTarget{AuthorizationHeader: &cloudtaskspb.HttpTarget_OauthToken{
		OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: email, Scope: scope},
	}}
}

func number(b *fixture, v any) int64 {
	b.Helper()
	n, ok := v.(json.Number)
	if !ok {
		b.Fatalf("%v is a %T, want a number", v, v)
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	b.ok(err)
	return i
}
