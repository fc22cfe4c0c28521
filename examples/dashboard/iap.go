package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

// iapAuth lets in whom Identity-Aware Proxy lets in: it checks the assertion that
// IAP signs, so a request that came around IAP is refused. The audience is
// "/projects/NUMBER/global/backendServices/ID" behind a load balancer,
// "/projects/NUMBER/apps/PROJECT" on App Engine; IAP's page on signed headers
// says where to look it up.
func iapAuth(ctx context.Context, audience string, opts ...option.ClientOption) (func(*http.Request) error, error) {
	if audience == "" {
		return nil, errors.New("iap: the audience is empty: assertions for any service would do")
	}
	validator, err := idtoken.NewValidator(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) error {
		token, err := validator.Validate(r.Context(), r.Header.Get("X-Goog-IAP-JWT-Assertion"), audience)
		if err != nil {
			return err
		}
		// Any Google account can have a token for any audience, from another issuer.
		if token.Issuer != "https://cloud.google.com/iap" {
			return fmt.Errorf("iap: the issuer is %q", token.Issuer)
		}
		return nil
	}, nil
}
