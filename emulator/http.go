package emulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/emulator/internal/token"
	"github.com/brillconsulting/handoff/internal/webguard"
)

const (
	keysPath      = "/oauth2/v3/certs" // as on www.googleapis.com
	certsPath     = "/oauth2/v1/certs" // the same keys, as PEM certificates
	healthPath    = "/healthz"
	discoveryPath = "/.well-known/openid-configuration"
)

// rules are the paths beyond the annotations.
//
// First those that Cloud Tasks gives to its mixins (docs/cloud-tasks.md#3.1). Beside
// them their own annotations hold: Node's REST client asks for
// /v1/projects/*/locations.
//
// Then those that firebase-admin uses where CLOUD_TASKS_EMULATOR_HOST is set:
// they have no version.
var rules = []*annotations.HttpRule{
	getRule("google.cloud.location.Locations.ListLocations", "{name=projects/*}/locations"),
	getRule("google.cloud.location.Locations.GetLocation", "{name=projects/*/locations/*}"),
	getRule("google.longrunning.Operations.GetOperation", "{name=projects/*/locations/*/operations/*}"),
	{
		Selector: "google.cloud.tasks.v2.CloudTasks.CreateTask",
		Pattern:  &annotations.HttpRule_Post{Post: "/{parent=projects/*/locations/*/queues/*}/tasks"},
		Body:     "*",
	},
	{
		Selector: "google.cloud.tasks.v2.CloudTasks.DeleteTask",
		Pattern:  &annotations.HttpRule_Delete{Delete: "/{name=projects/*/locations/*/queues/*/tasks/*}"},
	},
}

// getRule serves a method in both versions.
func getRule(selector, path string) *annotations.HttpRule {
	get := func(version string) *annotations.HttpRule {
		return &annotations.HttpRule{Selector: selector, Pattern: &annotations.HttpRule_Get{Get: version + path}}
	}
	rule := get("/v2/")
	rule.AdditionalBindings = []*annotations.HttpRule{get("/v2beta3/")}
	return rule
}

// hostsHint says how to reach the emulator by another name.
const hostsHint = "To reach the emulator by a name of your own, list it in Config.Hosts, or by --host."

// HTTPHandler serves what HTTPAddr serves, for use in a server or a test of
// your own: the REST API, the keys of the dispatches' tokens under
// /oauth2/v3/certs and, as PEM certificates, /oauth2/v1/certs, an OpenID Connect
// discovery document that points to them, /healthz for probes, and for test
// suites in any language [Server.Reset] as POST /emulator/reset and
// [Server.Wait] as GET /emulator/wait?timeout=30s.
//
// Requests that a web page of another site made a browser send, and those with
// a Host that is neither of this machine nor in Config.Hosts, get a 403.
func (s *Server) HTTPHandler() http.Handler { return s.web }

// newHTTPHandler makes it. No http.ServeMux, which would redirect the paths
// that it thinks unclean, where Google responds 404.
func (s *Server) newHTTPHandler(cfg Config) (http.Handler, error) {
	api, err := rest.New(rest.Config{
		Services: []rest.Service{
			{Desc: &cloudtaskspb.CloudTasks_ServiceDesc, Impl: s.service},
			{Desc: &betapb.CloudTasks_ServiceDesc, Impl: s.service.Beta()},
			{Desc: &rest.LocationsServiceDesc, Impl: s.service},
			{Desc: &longrunningpb.Operations_ServiceDesc, Impl: s.service},
		},
		Rules:       rules,
		Routes:      s.bufferRoutes(),
		Interceptor: s.intercept,
		MaxBody:     maxMessage,
		Logger:      cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	guard := webguard.Guard{Hosts: slices.Clone(cfg.Hosts)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := guard.Check(r); err != nil {
			rest.WriteError(w, status.Errorf(codes.PermissionDenied, "The emulator refuses this request: %s. %s", err, hostsHint))
			return
		}
		switch {
		case r.Method == http.MethodGet && r.URL.Path == keysPath:
			serveJSON(w, s.JWKS())
		case r.Method == http.MethodGet && r.URL.Path == certsPath:
			s.serveCerts(w)
		case (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Path == healthPath:
			s.serveHealth(w, r)
		case r.Method == http.MethodGet && r.URL.Path == discoveryPath:
			s.serveDiscovery(w, r)
		case r.Method == http.MethodPost && r.URL.Path == resetPath:
			s.serveReset(w)
		case r.Method == http.MethodGet && r.URL.Path == waitPath:
			s.serveWait(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	}), nil
}

// serveDiscovery writes the members that OpenID Connect Discovery 1.0
// §3 requires of an issuer that only signs. The issuer is Google's, as in the
// tokens; the keys are under the address that the caller used.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	doc, err := json.Marshal(map[string]any{
		"issuer":                                token.Issuer,
		"jwks_uri":                              "http://" + r.Host + keysPath,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"claims_supported":                      []string{"aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"},
	})
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	serveJSON(w, doc)
}

// serveHealth says what the health service of gRPC says.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	health, err := s.health.Check(r.Context(), new(healthpb.HealthCheckRequest))
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) serveCerts(w http.ResponseWriter) {
	certs, err := s.tokens.Certificates()
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	serveJSON(w, certs)
}

// maxAge is how long keys may be cached. Token libraries that find no max-age
// fetch them for every token (docs/cloud-tasks.md#16.3); with a long one they
// would keep the keys of a process that is gone.
const maxAge = "10"

// serveJSON writes a document that may be cached for a while.
func serveJSON(w http.ResponseWriter, doc []byte) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Cache-Control", "public, max-age="+maxAge)
	_, _ = w.Write(doc)
}
