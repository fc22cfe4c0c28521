package oidc

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
)

// Keys is a set of public keys that verify signatures.
type Keys struct {
	byID      map[string]*rsa.PublicKey
	canonical []byte // JWKS of the usable keys, in the order of their IDs
}

// jwk has the members that an RS256 check reads (RFC 7517).
type jwk struct {
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	Alg string `json:"alg,omitempty"`
	Use string `json:"use,omitempty"`
	N   string `json:"n"`
	E   string `json:"e"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// minModulus is the least size of an RS256 key, in bits (RFC 7518 §3.3).
const minModulus = 2048

// maxModulus is the greatest size of a key that verifying a signature may cost.
const maxModulus = 16_384

// ParseKeys parses a JWKS. It skips keys that cannot verify RS256: other types
// or algorithms, encryption keys, keys without an ID, and invalid numbers. A set
// without a usable key is an error.
func ParseKeys(raw []byte) (*Keys, error) {
	var set jwks
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	set.Keys = slices.DeleteFunc(set.Keys, func(k jwk) bool {
		return k.Kid == "" || k.Kty != "RSA" || (k.Alg != "" && k.Alg != "RS256") || (k.Use != "" && k.Use != "sig")
	})
	slices.SortFunc(set.Keys, func(a, b jwk) int { return cmp.Compare(a.Kid, b.Kid) })
	for i := 1; i < len(set.Keys); i++ {
		if set.Keys[i].Kid == set.Keys[i-1].Kid {
			return nil, errors.New("the JWKS has two keys with the same kid")
		}
	}
	k := &Keys{byID: make(map[string]*rsa.PublicKey)}
	set.Keys = slices.DeleteFunc(set.Keys, func(key jwk) bool {
		public := key.public()
		if public != nil {
			k.byID[key.Kid] = public
		}
		return public == nil
	})
	if len(set.Keys) == 0 {
		return nil, errors.New("the JWKS has no RSA key with a kid to check signatures with")
	}
	var err error
	k.canonical, err = json.Marshal(set)
	return k, err
}

// public returns the key, or nil if its numbers are invalid.
func (k jwk) public() *rsa.PublicKey {
	n, errN := base64.RawURLEncoding.DecodeString(k.N)
	e, errE := base64.RawURLEncoding.DecodeString(k.E)
	if errN != nil || errE != nil {
		return nil
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if modulus.BitLen() < minModulus || modulus.BitLen() > maxModulus || modulus.Bit(0) == 0 ||
		!exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > math.MaxInt32 || exponent.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
}

// same reports whether the two sets hold the same keys.
func (k *Keys) same(other *Keys) bool { return bytes.Equal(k.canonical, other.canonical) }

// signed reports whether the token that p was parsed from is signed by the key
// it names, and that key is in this set.
func (k *Keys) signed(p *parsed) bool {
	var buf [2 << 10]byte // longer than any real token, so that hashing one does not allocate
	sum := sha256.Sum256(append(buf[:0], p.signed...))
	return rsa.VerifyPKCS1v15(k.byID[p.kid], crypto.SHA256, sum[:], p.signature) == nil
}
