// Package oidctest makes tokens for tests: good ones as Google's, and bad ones
// of any kind, since every part of a token can be given as it shall be.
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

// What a token of [Claims] says.
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

// Shared returns a key that all tests of a process share, because making one
// takes longer than most of them.
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

// Claims returns the claims of a good token of now, in the order that Google
// writes them, with the changes made: a nil value takes a claim away.
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

// Good returns a token that is good now. No two are alike.
func (k *Key) Good() string {
	return k.Token(Claims(map[string]any{"nonce": rand.Text()}))
}

// Token returns a token with these claims and a good signature.
func (k *Key) Token(claims string) string { return k.Sign(k.Header(), claims) }

// Sign returns a token with this header and these claims, signed by RS256
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

// Decode undoes [Segment].
func Decode(segment string) []byte { return must(base64.RawURLEncoding.DecodeString(segment)) }
