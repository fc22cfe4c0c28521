// Package token makes the tokens that dispatches carry: OIDC tokens signed
// like Google's, and opaque OAuth access tokens (reference §10).
package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/big"
	"strconv"
	"sync"
	"time"
)

// Issuer is what Google's tokens name as their issuer.
const Issuer = "https://accounts.google.com"

const (
	lifetime = time.Hour
	// reuse is how long before its expiry a token is no longer handed out.
	// Whether the service mints one for every dispatch is unknown (reference
	// §10.2); a signature costs far more than the rest of a dispatch.
	reuse = 5 * time.Minute
	// Beyond so many (account, audience) pairs the cache starts afresh: the
	// default audience is the target's URL, of which there may be millions.
	maxCached = 4096
)

// Minter signs tokens with one key.
type Minter struct {
	key    *rsa.PrivateKey
	keyID  string
	header string

	mu     sync.RWMutex
	cached map[[2]string]entry
}

type entry struct {
	token   string
	expires time.Time
}

// shared is the key of every emulator of the process that is not given
// one: making it takes longer than most tests.
var shared = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, 2048)
})

// NewMinter returns a minter for key, or for a key of this process.
func NewMinter(key *rsa.PrivateKey) (*Minter, error) {
	if key == nil {
		var err error
		if key, err = shared(); err != nil {
			return nil, fmt.Errorf("emulator: making a signing key: %w", err)
		}
	}
	sum := sha256.Sum256(key.N.Bytes())
	m := &Minter{key: key, keyID: hex.EncodeToString(sum[:20]), cached: make(map[[2]string]entry)}
	header, err := json.Marshal(map[string]string{"alg": "RS256", "kid": m.keyID, "typ": "JWT"})
	if err != nil {
		return nil, err
	}
	m.header = encode(header)
	return m, nil
}

// OIDC returns a token for a service account and an audience, which may be
// one that has been handed out before.
func (m *Minter) OIDC(email, audience string) (string, error) {
	key := [2]string{email, audience}
	now := time.Now()
	m.mu.RLock()
	e, ok := m.cached[key]
	m.mu.RUnlock()
	if ok && now.Before(e.expires.Add(-reuse)) {
		return e.token, nil
	}
	token, err := m.Sign(m.Claims(email, audience, now))
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cached) >= maxCached {
		clear(m.cached)
	}
	m.cached[key] = entry{token, now.Add(lifetime)}
	return token, nil
}

// Claims is what a token of the service says (reference §10.2).
func (m *Minter) Claims(email, audience string, now time.Time) map[string]any {
	id := AccountID(email)
	return map[string]any{
		"iss":            Issuer,
		"aud":            audience,
		"azp":            id,
		"sub":            id,
		"email":          email,
		"email_verified": true,
		"iat":            now.Unix(),
		"exp":            now.Add(lifetime).Unix(),
	}
}

// AccountID is the numeric ID of a service account, always the same for
// the same email.
func AccountID(email string) string {
	h := fnv.New64a()
	h.Write([]byte(email))
	return "1" + fmt.Sprintf("%020d", h.Sum64())
}

// Sign returns a token with these claims, whatever they say.
func (m *Minter) Sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("emulator: token claims: %w", err)
	}
	signed := m.header + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, m.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("emulator: signing a token: %w", err)
	}
	return signed + "." + encode(signature), nil
}

// OAuth returns an access token. It opens nothing: it only looks like one.
func (m *Minter) OAuth(email, scope string) string {
	sum := sha256.Sum256([]byte(email + "\x00" + scope + "\x00" + strconv.FormatInt(time.Now().Unix()/3600, 10)))
	return "ya29.emulator-" + encode(sum[:])
}

// JWKS is the public key as a JSON Web Key Set, in the form of Google's own.
func (m *Minter) JWKS() []byte {
	type jwk struct {
		KeyID string `json:"kid"`
		Type  string `json:"kty"`
		Alg   string `json:"alg"`
		Use   string `json:"use"`
		N     string `json:"n"`
		E     string `json:"e"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{{
		KeyID: m.keyID, Type: "RSA", Alg: "RS256", Use: "sig",
		N: encode(m.key.N.Bytes()),
		E: encode(big.NewInt(int64(m.key.E)).Bytes()),
	}}}
	doc, err := json.Marshal(set)
	if err != nil {
		panic("emulator: " + err.Error()) // strings only: cannot happen
	}
	return doc
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
