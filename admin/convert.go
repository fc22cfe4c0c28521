package admin

import (
	"cmp"
	"net/textproto"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff"
)

// message returns the v2 message of c, which is resolved and checked. It has no
// TTLs.
func (c *QueueConfig) message(name string) *cloudtaskspb.Queue {
	q := &cloudtaskspb.Queue{
		Name: name,
		RateLimits: &cloudtaskspb.RateLimits{
			MaxDispatchesPerSecond:  c.MaxDispatchesPerSecond,
			MaxConcurrentDispatches: int32(c.MaxConcurrentDispatches),
		},
		RetryConfig: &cloudtaskspb.RetryConfig{
			MaxAttempts:      int32(c.MaxAttempts),
			MaxRetryDuration: durationpb.New(c.MaxRetryDuration),
			MinBackoff:       durationpb.New(c.MinBackoff),
			MaxBackoff:       durationpb.New(c.MaxBackoff),
			MaxDoublings:     int32(max(c.MaxDoublings, 0)),
		},
		HttpTarget: c.HTTPTarget.message(),
	}
	if c.LoggingSample != 0 {
		q.StackdriverLoggingConfig = &cloudtaskspb.StackdriverLoggingConfig{SamplingRatio: c.LoggingSample}
	}
	if r := c.AppEngine; r != nil {
		q.AppEngineRoutingOverride = &cloudtaskspb.AppEngineRouting{Service: r.Service, Version: r.Version, Instance: r.Instance}
	}
	return q
}

func (o *HTTPOverride) message() *cloudtaskspb.HttpTarget {
	if o == nil {
		return nil
	}
	t := &cloudtaskspb.HttpTarget{
		HttpMethod:  cloudtaskspb.HttpMethod(cloudtaskspb.HttpMethod_value[o.Method]),
		UriOverride: o.uri(),
	}
	for name, value := range o.Headers {
		t.HeaderOverrides = append(t.HeaderOverrides, &cloudtaskspb.HttpTarget_HeaderOverride{
			Header: &cloudtaskspb.HttpTarget_Header{Key: name, Value: value},
		})
	}
	switch {
	case o.Audience != "":
		t.AuthorizationHeader = &cloudtaskspb.HttpTarget_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: o.ServiceAccount, Audience: o.Audience}}
	case o.Scope != "":
		t.AuthorizationHeader = &cloudtaskspb.HttpTarget_OauthToken{OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: o.ServiceAccount, Scope: o.Scope}}
	}
	return t
}

func (o *HTTPOverride) uri() *cloudtaskspb.UriOverride {
	if !o.overridesURI() {
		return nil
	}
	u := &cloudtaskspb.UriOverride{UriOverrideEnforceMode: cloudtaskspb.UriOverride_ALWAYS}
	if o.IfNotExists {
		u.UriOverrideEnforceMode = cloudtaskspb.UriOverride_IF_NOT_EXISTS
	}
	switch o.Scheme {
	case "http":
		u.Scheme = cloudtaskspb.UriOverride_HTTP.Enum()
	case "https":
		u.Scheme = cloudtaskspb.UriOverride_HTTPS.Enum()
	}
	if o.Host != "" {
		u.Host = new(o.Host)
	}
	if o.Port != 0 {
		u.Port = new(int64(o.Port))
	}
	if o.Path != nil {
		u.PathOverride = &cloudtaskspb.PathOverride{Path: *o.Path}
	}
	if o.Query != nil {
		u.QueryOverride = &cloudtaskspb.QueryOverride{QueryParams: *o.Query}
	}
	return u
}

// configOf returns the configuration of a queue, with every field set.
func configOf(id string, q *cloudtaskspb.Queue) QueueConfig {
	c := QueueConfig{
		ID:                      id,
		MaxDispatchesPerSecond:  q.GetRateLimits().GetMaxDispatchesPerSecond(),
		MaxConcurrentDispatches: int(q.GetRateLimits().GetMaxConcurrentDispatches()),
		MaxAttempts:             int(q.GetRetryConfig().GetMaxAttempts()),
		MinBackoff:              q.GetRetryConfig().GetMinBackoff().AsDuration(),
		MaxBackoff:              q.GetRetryConfig().GetMaxBackoff().AsDuration(),
		MaxDoublings:            cmp.Or(int(q.GetRetryConfig().GetMaxDoublings()), handoff.NoDoublings),
		MaxRetryDuration:        q.GetRetryConfig().GetMaxRetryDuration().AsDuration(),
		LoggingSample:           q.GetStackdriverLoggingConfig().GetSamplingRatio(),
		HTTPTarget:              overrideOf(q.GetHttpTarget()),
	}
	if r := q.GetAppEngineRoutingOverride(); r.GetService()+r.GetVersion()+r.GetInstance() != "" {
		c.AppEngine = &AppEngineRouting{Service: r.GetService(), Version: r.GetVersion(), Instance: r.GetInstance()}
	}
	return c
}

func overrideOf(t *cloudtaskspb.HttpTarget) *HTTPOverride {
	u := t.GetUriOverride()
	o := &HTTPOverride{
		Host:   u.GetHost(),
		Port:   int(u.GetPort()),
		Method: methodOf(t.GetHttpMethod()),
	}
	if scheme := u.GetScheme(); scheme != cloudtaskspb.UriOverride_SCHEME_UNSPECIFIED {
		o.Scheme = strings.ToLower(scheme.String())
	}
	if p := u.GetPathOverride(); p != nil {
		o.Path = new(p.GetPath())
	}
	if q := u.GetQueryOverride(); q != nil {
		o.Query = new(q.GetQueryParams())
	}
	o.IfNotExists = o.overridesURI() && u.GetUriOverrideEnforceMode() == cloudtaskspb.UriOverride_IF_NOT_EXISTS
	for _, h := range t.GetHeaderOverrides() {
		if o.Headers == nil {
			o.Headers = make(map[string]string)
		}
		o.Headers[textproto.CanonicalMIMEHeaderKey(h.GetHeader().GetKey())] = h.GetHeader().GetValue()
	}
	o.ServiceAccount, o.Audience, o.Scope = tokenOf(t.GetOidcToken(), t.GetOauthToken())
	if o.empty() {
		return nil
	}
	return o
}

func methodOf(m cloudtaskspb.HttpMethod) string {
	if m == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		return ""
	}
	return m.String()
}

func tokenOf(oidc *cloudtaskspb.OidcToken, oauth *cloudtaskspb.OAuthToken) (account, audience, scope string) {
	if oidc != nil {
		return oidc.GetServiceAccountEmail(), oidc.GetAudience(), ""
	}
	return oauth.GetServiceAccountEmail(), "", oauth.GetScope()
}

// toBeta returns the v2beta3 message of a v2 one, with the TTLs. But for the App
// Engine override, the two versions differ only in the numbers of their fields
// (docs/cloud-tasks.md#5.1), so JSON converts them.
func toBeta(q *cloudtaskspb.Queue, c *QueueConfig) (*betapb.Queue, error) {
	text, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	b := new(betapb.Queue)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, b); err != nil {
		return nil, err
	}
	if r := q.GetAppEngineRoutingOverride(); r != nil {
		b.QueueType = &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{
			AppEngineRoutingOverride: &betapb.AppEngineRouting{Service: r.GetService(), Version: r.GetVersion(), Instance: r.GetInstance()},
		}}
	}
	if c.TaskTTL != 0 {
		b.TaskTtl = durationpb.New(c.TaskTTL)
	}
	if c.TombstoneTTL != 0 {
		b.TombstoneTtl = durationpb.New(c.TombstoneTTL)
	}
	return b, nil
}

// fromBeta returns the part of a v2beta3 message that v2 has.
func fromBeta(b *betapb.Queue) (*cloudtaskspb.Queue, error) {
	text, err := protojson.Marshal(b)
	if err != nil {
		return nil, err
	}
	q := new(cloudtaskspb.Queue)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, q); err != nil {
		return nil, err
	}
	if r := b.GetAppEngineHttpQueue().GetAppEngineRoutingOverride(); r != nil {
		q.AppEngineRoutingOverride = &cloudtaskspb.AppEngineRouting{Service: r.GetService(), Version: r.GetVersion(), Instance: r.GetInstance()}
	}
	return q, nil
}

// timeOf returns the zero time for a timestamp that is not set.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
