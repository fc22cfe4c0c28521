// Package token makes the tokens that dispatches carry: OIDC tokens signed
// like Google's, and opaque OAuth access tokens (docs/cloud-tasks.md#10).
package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"math/big"
	"strconv"
	"sync"
	"time"
)

// Issuer is the issuer of Google's tokens.
const Issuer = "https://accounts.google.com"

const (
	lifetime = time.Hour
	// reuse is how long before its expiry a token is no longer reused. Whether the
	// service makes one for every dispatch is unknown (docs/cloud-tasks.md#10.2); a
	// signature costs far more than the rest of a dispatch.
	reuse = 5 * time.Minute
	// The cache is cleared beyond this many pairs of account and audience: the
	// default audience is the target's URL, of which there may be millions.
	maxCached = 4096
)

// Minter signs tokens with the latest of its keys.
type Minter struct {
	signer func() *signer // the first key's

	mu     sync.RWMutex
	later  []*signer // keys rotated to, oldest first
	cached map[[2]string]entry
}

type signer struct {
	key         *rsa.PrivateKey
	keyID       string
	header      string // encoded
	certificate func() (string, error)
}

// entry is a token. The first caller signs it while the others wait.
type entry struct {
	token   func() (string, error)
	expires time.Time
}

// shared has the key of all emulators of the process without one of their own.
// It is made with the first token, because making it takes longer than most
// tests, and many need none.
var shared = sync.OnceValue(func() *signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("emulator: " + err.Error()) // only for invalid key sizes
	}
	return newSigner(key)
})

// NewMinter returns a minter for key, or for a key of this process.
func NewMinter(key *rsa.PrivateKey) *Minter {
	m := &Minter{signer: shared, cached: make(map[[2]string]entry)}
	if key != nil {
		m.signer = sync.OnceValue(func() *signer { return newSigner(key) })
	}
	return m
}

func newSigner(key *rsa.PrivateKey) *signer {
	sum := sha256.Sum256(key.N.Bytes())
	id := hex.EncodeToString(sum[:20])
	return &signer{
		key:         key,
		keyID:       id,
		header:      encode([]byte(`{"alg":"RS256","kid":"` + id + `","typ":"JWT"}`)),
		certificate: sync.OnceValues(func() (string, error) { return makeCertificate(key) }),
	}
}

// OIDC returns a token for a service account and an audience. It may return the
// same token several times.
func (m *Minter) OIDC(email, audience string) (string, error) {
	key := [2]string{email, audience}
	now := time.Now()
	m.mu.RLock()
	e, ok := m.cached[key]
	m.mu.RUnlock()
	if ok && now.Before(e.expires.Add(-reuse)) {
		return e.token()
	}
	m.mu.Lock()
	e, ok = m.cached[key]
	if !ok || !now.Before(e.expires.Add(-reuse)) {
		if len(m.cached) >= maxCached {
			clear(m.cached)
		}
		e = entry{sync.OnceValues(func() (string, error) { return m.Sign(m.Claims(email, audience, now)) }), now.Add(lifetime)}
		m.cached[key] = e
	}
	m.mu.Unlock()
	return e.token()
}

// Rotate signs with a new key from now on.
func (m *Minter) Rotate() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.later = append(m.later, newSigner(key))
	clear(m.cached)
	return nil
}

func (m *Minter) signers() []*signer {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]*signer{m.signer()}, m.later...)
}

// Claims returns the claims of a token of the service
// (docs/cloud-tasks.md#10.2).
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

// AccountID returns the numeric ID of a service account. It depends only on the
// email.
func AccountID(email string) string {
	h := fnv.New64a()
	h.Write([]byte(email))
	return "1" + fmt.Sprintf("%020d", h.Sum64())
}

// Sign returns a token with these claims, without checking them.
func (m *Minter) Sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("emulator: token claims: %w", err)
	}
	keys := m.signers()
	by := keys[len(keys)-1]
	signed := by.header + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, by.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("emulator: signing a token: %w", err)
	}
	return signed + "." + encode(signature), nil
}

// OAuth returns an access token. It has the form of one, and gives access to
// nothing.
func (m *Minter) OAuth(email, scope string) string {
	sum := sha256.Sum256([]byte(email + "\x00" + scope + "\x00" + strconv.FormatInt(time.Now().Unix()/3600, 10)))
	return "ya29.emulator-" + encode(sum[:])
}

// JWKS returns the public keys as a JSON Web Key Set, in the form of Google's.
func (m *Minter) JWKS() []byte {
	type jwk struct {
		KeyID string `json:"kid"`
		Type  string `json:"kty"`
		Alg   string `json:"alg"`
		Use   string `json:"use"`
		N     string `json:"n"`
		E     string `json:"e"`
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	for _, by := range m.signers() {
		set.Keys = append(set.Keys, jwk{
			KeyID: by.keyID, Type: "RSA", Alg: "RS256", Use: "sig",
			N: encode(by.key.N.Bytes()),
			E: encode(big.NewInt(int64(by.key.E)).Bytes()),
		})
	}
	doc, err := json.Marshal(set)
	if err != nil {
		panic("emulator: " + err.Error()) // cannot happen: the values are strings
	}
	return doc
}

// Certificates has the same keys as PEM certificates by key ID, in the form of
// https://www.googleapis.com/oauth2/v1/certs, where Google's libraries for Node
// and Python look.
func (m *Minter) Certificates() ([]byte, error) {
	certs := make(map[string]string)
	for _, by := range m.signers() {
		cert, err := by.certificate()
		if err != nil {
			return nil, fmt.Errorf("emulator: %w", err)
		}
		certs[by.keyID] = cert
	}
	return json.Marshal(certs)
}

// makeCertificate returns a certificate that a key has signed for itself. Only the
// key in it is of interest.
func makeCertificate(key *rsa.PrivateKey) (string, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "federated-signon.system.gserviceaccount.com"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
