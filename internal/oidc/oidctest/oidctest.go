// Package oidctest makes tokens for tests: valid ones like Google's, and invalid
// ones, of which every part can be chosen.
package oidctest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"time"
)

// Issuer, audience and email of the tokens of [Claims].
const (
	Issuer   = "https://accounts.google.com"
	Audience = "https://worker.example.com"
	Email    = "tasks@project.iam.gserviceaccount.com"
	Subject  = "107145139691231222712"
)

// Key signs tokens.
type Key struct {
	*rsa.PrivateKey
	ID string
}

// NewKey returns a new key.
func NewKey(id string) *Key {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return &Key{private, id}
}

// Shared returns a key that all tests of a process share: making one takes
// longer than most tests.
var Shared = sync.OnceValue(func() *Key { return NewKey("shared-key") })

// JWKS returns the public keys as a key server publishes them.
func JWKS(keys ...*Key) []byte {
	type jwk map[string]string
	set := map[string][]jwk{"keys": {}}
	for _, k := range keys {
		set["keys"] = append(set["keys"], jwk{
			"kid": k.ID, "kty": "RSA", "alg": "RS256", "use": "sig",
			"n": Segment(k.N.Bytes()),
			"e": Segment(big.NewInt(int64(k.E)).Bytes()),
		})
	}
	return must(json.Marshal(set))
}

// Header returns the JOSE header of k's tokens.
func (k *Key) Header() string {
	return fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT"}`, k.ID)
}

// Claims returns the claims of a token that is valid now, in Google's order,
// with the changes applied. A nil value removes a claim.
func Claims(change map[string]any) string {
	now := time.Now()
	claims := map[string]any{
		"aud": Audience, "azp": Subject, "email": Email, "email_verified": true,
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "iss": Issuer, "sub": Subject,
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return string(must(json.Marshal(claims))) // in alphabetical order, as Google's are
}

// Good returns a token that is valid now. No two are equal.
func (k *Key) Good() string {
	return k.Token(Claims(map[string]any{"nonce": rand.Text()}))
}

// Token returns a token with these claims and a valid signature.
func (k *Key) Token(claims string) string { return k.Sign(k.Header(), claims) }

// Sign returns a token with this header and these claims. It is signed by RS256
// whatever the header says.
func (k *Key) Sign(header, claims string) string {
	signed := Segment([]byte(header)) + "." + Segment([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	return signed + "." + Segment(must(rsa.SignPKCS1v15(nil, k.PrivateKey, crypto.SHA256, sum[:])))
}

// Segment encodes one part of a token.
func Segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Decode reverses [Segment].
func Decode(segment string) []byte { return must(base64.RawURLEncoding.DecodeString(segment)) }
