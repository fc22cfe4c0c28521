package handoff_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// attack is a request that must be refused. Its token is created anew each time.
type attack struct {
	request func() *http.Request
	status  int
	reason  handoff.Reason
	fetches int32 // how many fetches of keys it may cause
}

// stranger is a valid key that is not among the published keys.
var stranger = sync.OnceValue(func() *oidctest.Key { return oidctest.NewKey("stranger-key") })

// byToken returns an attack with a forged token.
func byToken(reason handoff.Reason, forge func(key *oidctest.Key) string) attack {
	return byHeaders(reason, func(key *oidctest.Key) []string { return []string{"Bearer " + forge(key)} })
}

// byHeaders returns an attack with these Authorization headers.
func byHeaders(reason handoff.Reason, forge func(key *oidctest.Key) []string) attack {
	return attack{status: http.StatusUnauthorized, reason: reason, request: func() *http.Request {
		r := delivering("")
		r.Header["Authorization"] = forge(oidctest.Shared())
		return r
	}}
}

// byGood returns an attack with an Authorization header that is derived from a good
// token.
func byGood(reason handoff.Reason, forge func(good string) string) attack {
	return byHeaders(reason, func(key *oidctest.Key) []string { return []string{forge(key.Good())} })
}

// knowing returns an attack with a good token and a changed request.
func knowing(status int, reason handoff.Reason, change func(r *http.Request)) attack {
	return attack{status: status, reason: reason, request: func() *http.Request {
		r := delivering(oidctest.Shared().Good())
		change(r)
		return r
	}}
}

// byClaims returns an attack with a correctly signed token whose claims are
// changed. A nil value removes a claim.
func byClaims(reason handoff.Reason, changes ...any) attack {
	return byToken(reason, func(*oidctest.Key) string { return claiming(changes...) })
}

func claimsOf(changes ...any) string {
	m := make(map[string]any)
	for i := 0; i < len(changes); i += 2 {
		m[changes[i].(string)] = changes[i+1]
	}
	return oidctest.Claims(m)
}

func claiming(changes ...any) string { return oidctest.Shared().Token(claimsOf(changes...)) }

// byText returns an attack with a correctly signed token, in whose claims, as text,
// old is replaced.
func byText(reason handoff.Reason, old, replacement string) attack {
	return byToken(reason, func(key *oidctest.Key) string {
		claims := oidctest.Claims(nil)
		changed := strings.Replace(claims, old, replacement, 1)
		if changed == claims {
			panic(old + " is not in " + claims)
		}
		return key.Token(changed)
	})
}

// byHeader returns an attack with a correctly signed token that has this header.
// KID in it stands for the key's ID.
func byHeader(reason handoff.Reason, header string) attack {
	return byToken(reason, func(key *oidctest.Key) string {
		return key.Sign(strings.ReplaceAll(header, "KID", key.ID), oidctest.Claims(nil))
	})
}

// costing allows an attack to cause fetches of the keys.
func (a attack) costing(fetches int32) attack { a.fetches = fetches; return a }

func splitToken(token string) (header, claims, signature string) {
	parts := strings.Split(token, ".")
	return parts[0], parts[1], parts[2]
}

// resign replaces the signature of a good token.
func resign(reason handoff.Reason, change func(signature string) string) attack {
	return byGood(reason, func(good string) string {
		header, claims, signature := splitToken(good)
		return "Bearer " + header + "." + claims + "." + change(signature)
	})
}

var attacks = map[string]attack{
	// Without a token, or with a token in the wrong place.
	"no token":                      {request: func() *http.Request { return delivering("") }, status: 401, reason: handoff.ReasonNoToken},
	"empty header":                  byGood(handoff.ReasonTokenMalformed, func(string) string { return "" }),
	"the scheme alone":              byGood(handoff.ReasonTokenMalformed, func(string) string { return "Bearer" }),
	"the scheme and a space":        byGood(handoff.ReasonTokenMalformed, func(string) string { return "Bearer " }),
	"no scheme":                     byGood(handoff.ReasonTokenMalformed, func(good string) string { return good }),
	"lower-case bearer":             byGood(handoff.ReasonTokenMalformed, func(good string) string { return "bearer " + good }),
	"upper-case BEARER":             byGood(handoff.ReasonTokenMalformed, func(good string) string { return "BEARER " + good }),
	"a tab for the space":           byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer\t" + good }),
	"two spaces":                    byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer  " + good }),
	"a space before":                byGood(handoff.ReasonTokenMalformed, func(good string) string { return " Bearer " + good }),
	"a space behind":                byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + " " }),
	"a line end behind":             byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + "\r\n" }),
	"a line end inside":             byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good[:100] + "\n" + good[100:] }),
	"a NUL behind":                  byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + "\x00" }),
	"the scheme twice":              byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer Bearer " + good }),
	"another scheme":                byGood(handoff.ReasonTokenMalformed, func(string) string { return "Basic dXNlcjpwYXNzd29yZA==" }),
	"two tokens in two headers":     byHeaders(handoff.ReasonTwoTokens, func(k *oidctest.Key) []string { return []string{"Bearer " + k.Good(), "Bearer " + k.Good()} }),
	"a good token before a bad one": byHeaders(handoff.ReasonTwoTokens, func(k *oidctest.Key) []string { return []string{"Bearer " + k.Good(), "Bearer x"} }),
	"two tokens in one header":      byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + ", Bearer " + good }),
	"a token of 8 kB and a byte":    byGood(handoff.ReasonTooLong, func(string) string { return "Bearer " + strings.Repeat("a", 8<<10+1) }),
	"a token of 2 MB":               byGood(handoff.ReasonTooLong, func(string) string { return "Bearer " + strings.Repeat("a.", 1<<20) }),
	"4096 dots":                     byGood(handoff.ReasonTokenMalformed, func(string) string { return "Bearer " + strings.Repeat(".", 4096) }),
	"in another header": {request: func() *http.Request {
		r := delivering("")
		for _, name := range []string{"X-Serverless-Authorization", "Proxy-Authorization", "X-Forwarded-Authorization", "Cookie"} {
			r.Header.Set(name, "Bearer "+oidctest.Shared().Good())
		}
		return r
	}, status: 401, reason: handoff.ReasonNoToken},
	"in the query": {request: func() *http.Request {
		r := delivering("")
		r.URL.RawQuery = "access_token=" + oidctest.Shared().Good()
		return r
	}, status: 401, reason: handoff.ReasonNoToken},
	"forged App Engine headers": {request: func() *http.Request {
		r := delivering("")
		r.Header.Set("X-AppEngine-QueueName", "orders")
		r.Header.Set("X-AppEngine-TaskName", "1")
		return r
	}, status: 401, reason: handoff.ReasonNoToken},

	// The shape of the token.
	"one segment":             byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + strings.ReplaceAll(good, ".", "") }),
	"two segments":            byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good[:strings.LastIndex(good, ".")] }),
	"four segments":           byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + ".AAAA" }),
	"five, as encrypted ones": byGood(handoff.ReasonTokenMalformed, func(good string) string { return "Bearer " + good + ".AAAA.AAAA" }),
	"no header": byGood(handoff.ReasonTokenMalformed, func(good string) string {
		return "Bearer " + strings.TrimLeft(good, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
	}),
	"null for both":      byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Sign("null", "null") }),
	"null claims":        byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token("null") }),
	"no claims":          byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token("") }),
	"array claims":       byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token("[" + oidctest.Claims(nil) + "]") }),
	"text claims":        byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token(fmt.Sprintf("%q", oidctest.Claims(nil))) }),
	"two objects":        byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token("{}" + oidctest.Claims(nil)) }),
	"a byte parcel mark": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string { return k.Token("\ufeff" + oidctest.Claims(nil)) }),
	"deeply nested claims": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		return k.Token(`{"aud":` + strings.Repeat("[", 2500) + strings.Repeat("]", 2500) + `}`)
	}),
	"the standard alphabet": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		header, _, signature := splitToken(k.Good())
		return header + "." + base64.StdEncoding.EncodeToString([]byte(oidctest.Claims(map[string]any{"x": "???>>>"}))) + "." + signature
	}),

	// The algorithm.
	"alg none":             unsigned(`{"alg":"none","kid":"KID"}`, ""),
	"alg None, signed":     byHeader(handoff.ReasonAlgorithm, `{"alg":"None","kid":"KID"}`),
	"alg empty":            byHeader(handoff.ReasonTokenMalformed, `{"alg":"","kid":"KID"}`),
	"alg missing":          byHeader(handoff.ReasonAlgorithm, `{"kid":"KID"}`),
	"alg null":             byHeader(handoff.ReasonTokenMalformed, `{"alg":null,"kid":"KID"}`),
	"alg in lower case":    byHeader(handoff.ReasonAlgorithm, `{"alg":"rs256","kid":"KID"}`),
	"alg as array":         byHeader(handoff.ReasonTokenMalformed, `{"alg":["RS256"],"kid":"KID"}`),
	"alg RS384":            byHeader(handoff.ReasonAlgorithm, `{"alg":"RS384","kid":"KID"}`),
	"alg PS256":            byHeader(handoff.ReasonAlgorithm, `{"alg":"PS256","kid":"KID"}`),
	"alg twice":            byHeader(handoff.ReasonTokenMalformed, `{"alg":"none","alg":"RS256","kid":"KID"}`),
	"alg in two spellings": byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","ALG":"none","kid":"KID"}`),
	"Alg for alg":          byHeader(handoff.ReasonTokenMalformed, `{"Alg":"RS256","kid":"KID"}`),
	"HS256 by the public key in PEM": byToken(handoff.ReasonAlgorithm, func(k *oidctest.Key) string {
		der, _ := x509.MarshalPKIXPublicKey(&k.PublicKey)
		return hs256(k, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}),
	"HS256 by the modulus": byToken(handoff.ReasonAlgorithm, func(k *oidctest.Key) string { return hs256(k, k.N.Bytes()) }),
	"ES256, well signed": byToken(handoff.ReasonAlgorithm, func(k *oidctest.Key) string {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		signed := signable(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, k.ID), oidctest.Claims(nil))
		sum := sha256.Sum256([]byte(signed))
		r, s, _ := ecdsa.Sign(rand.Reader, key, sum[:])
		return signed + "." + oidctest.Segment(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}),
	"ES256 with a short signature": unsigned(`{"alg":"ES256","kid":"KID"}`, "AAAA"), // crashes google.golang.org/api/idtoken
	"ES256 without a signature":    unsigned(`{"alg":"ES256","kid":"KID"}`, "SIGNATURE_REMOVED_BY_GOOGLE"),

	// The key.
	"an unknown key":                byToken(handoff.ReasonKey, func(*oidctest.Key) string { return stranger().Good() }).costing(1),
	"an unknown key for a stranger": byToken(handoff.ReasonKey, func(*oidctest.Key) string { return stranger().Token(claimsOf("email", "MARK@example.com")) }).costing(1), // as for a listed account
	"a stranger's key by our name":  byToken(handoff.ReasonSignature, func(k *oidctest.Key) string { return stranger().Sign(k.Header(), oidctest.Claims(nil)) }),
	"the key's name in capitals":    byHeader(handoff.ReasonKey, `{"alg":"RS256","kid":"SHARED-KEY"}`).costing(1),
	"a path for a key":              byHeader(handoff.ReasonKey, `{"alg":"RS256","kid":"../../../dev/null"}`).costing(1),
	"no key":                        byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256"}`),
	"an empty key":                  byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":""}`),
	"a number for a key":            byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":0}`),
	"a key twice":                   byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"a","kid":"KID"}`),
	"a key in the header (jwk)": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		var set struct{ Keys []json.RawMessage }
		_ = json.Unmarshal(oidctest.JWKS(stranger()), &set)
		return stranger().Sign(fmt.Sprintf(`{"alg":"RS256","kid":%q,"jwk":%s}`, k.ID, set.Keys[0]), oidctest.Claims(nil))
	}),
	"a key elsewhere (jku)":         byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","jku":"https://MARK.example.com/jwks"}`),
	"a certificate (x5c)":           byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","x5c":["MARK"]}`),
	"a certificate elsewhere (x5u)": byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","x5u":"https://MARK.example.com/"}`),
	"a demand (crit)":               byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","crit":["exp"]}`),
	"an unencoded payload (b64)":    byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","b64":false,"crit":["b64"]}`),
	"another type of token":         byHeader(handoff.ReasonTokenMalformed, `{"alg":"RS256","kid":"KID","typ":"at+jwt"}`),

	// The signature.
	"no signature":                 resign(handoff.ReasonTokenMalformed, func(string) string { return "" }),
	"signature removed":            resign(handoff.ReasonSignatureRemoved, func(string) string { return "SIGNATURE_REMOVED_BY_GOOGLE" }),
	"signature nearly removed":     resign(handoff.ReasonSignature, func(string) string { return "SIGNATURE_REMOVED_BY_GOOGLE_" }),
	"signature cut by a letter":    resign(handoff.ReasonTokenMalformed, func(s string) string { return s[:len(s)-1] }),
	"signature cut by a byte":      resign(handoff.ReasonSignature, func(s string) string { b := oidctest.Decode(s); return oidctest.Segment(b[:len(b)-1]) }),
	"signature with padding":       resign(handoff.ReasonTokenMalformed, func(s string) string { return s + "==" }),
	"signature with a byte more":   resign(handoff.ReasonSignature, func(s string) string { return oidctest.Segment(append(oidctest.Decode(s), 0)) }),
	"signature with a zero before": resign(handoff.ReasonSignature, func(s string) string { return oidctest.Segment(append([]byte{0}, oidctest.Decode(s)...)) }),
	"signature spelt differently": resign(handoff.ReasonTokenMalformed, func(s string) string { // four bits of its last letter are not significant
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := strings.IndexByte(alphabet, s[len(s)-1])
		return s[:len(s)-1] + alphabet[last^1:][:1]
	}),
	"signature of zeros": resign(handoff.ReasonSignature, func(string) string { return oidctest.Segment(make([]byte, 256)) }),
	"signature of ones":  resign(handoff.ReasonSignature, func(string) string { return oidctest.Segment(bytes.Repeat([]byte{0xff}, 256)) }),
	"signature and modulus": resign(handoff.ReasonSignature, func(s string) string {
		sum := new(big.Int).SetBytes(oidctest.Decode(s))
		return oidctest.Segment(sum.Add(sum, oidctest.Shared().N).Bytes())
	}),
	"signature of another token": resign(handoff.ReasonSignature, func(string) string { _, _, s := splitToken(oidctest.Shared().Good()); return s }),
	"signature by another hash": byToken(handoff.ReasonSignature, func(k *oidctest.Key) string {
		signed := signable(k.Header(), oidctest.Claims(nil))
		signature, _ := rsa.SignPKCS1v15(nil, k.PrivateKey, 0, []byte(signed[:100]))
		return signed + "." + oidctest.Segment(signature)
	}),
	"claims changed afterwards": byToken(handoff.ReasonSignature, func(k *oidctest.Key) string {
		header, _, signature := splitToken(k.Good())
		return header + "." + oidctest.Segment([]byte(claimsOf("sub", "MARK"))) + "." + signature
	}),

	// The audience.
	"another service":          byClaims(handoff.ReasonAudience, "aud", "https://MARK.example.com"),
	"no audience":              byClaims(handoff.ReasonAudience, "aud", nil),
	"empty audience":           byClaims(handoff.ReasonTokenMalformed, "aud", ""),
	"null audience":            byText(handoff.ReasonTokenMalformed, `"aud":"`+oidctest.Audience+`"`, `"aud":null`),
	"an array of audiences":    byClaims(handoff.ReasonTokenMalformed, "aud", []string{oidctest.Audience, "https://MARK.example.com"}),
	"an array of one":          byClaims(handoff.ReasonTokenMalformed, "aud", []string{oidctest.Audience}),
	"an object of audiences":   byClaims(handoff.ReasonTokenMalformed, "aud", map[string]string{"aud": oidctest.Audience}),
	"the audience and a slash": byClaims(handoff.ReasonAudience, "aud", oidctest.Audience+"/"),
	"the audience and a path":  byClaims(handoff.ReasonAudience, "aud", oidctest.Audience+"/tasks/order"),
	"the start of an audience": byClaims(handoff.ReasonAudience, "aud", "https://worker"),
	"the audience in capitals": byClaims(handoff.ReasonAudience, "aud", "https://WORKER.example.com"),
	"the audience over http":   byClaims(handoff.ReasonAudience, "aud", "http://worker.example.com"),
	"two audiences":            byText(handoff.ReasonTokenMalformed, `"aud":`, `"aud":"https://MARK.example.com","aud":`),
	"Aud for aud":              byText(handoff.ReasonTokenMalformed, `"aud":`, `"Aud":`),
	"aud and AUD":              byText(handoff.ReasonTokenMalformed, `"aud":`, `"AUD":"https://MARK.example.com","aud":`),
	"aud in escapes":           byText(handoff.ReasonTokenMalformed, `"aud":`, `"\u0061ud":`),

	// The issuer and the account.
	"another issuer":          byClaims(handoff.ReasonIssuer, "iss", "https://MARK.example.com"),
	"Firebase":                byClaims(handoff.ReasonIssuer, "iss", "https://securetoken.google.com/project"),
	"no issuer":               byClaims(handoff.ReasonIssuer, "iss", nil),
	"the issuer and a slash":  byClaims(handoff.ReasonIssuer, "iss", "https://accounts.google.com/"),
	"the issuer over http":    byClaims(handoff.ReasonIssuer, "iss", "http://accounts.google.com"),
	"the issuer as a prefix":  byClaims(handoff.ReasonIssuer, "iss", "https://accounts.google.com.MARK.example.com"),
	"iſs beside iss":          byText(handoff.ReasonTokenMalformed, `"iss":`, `"iſs":"https://MARK.example.com","iss":`),
	"another account":         forbidden("email", "other@project.iam.gserviceaccount.com"),
	"a person":                forbidden("email", "MARK@gmail.com"),
	"the account in capitals": forbidden("email", "Tasks@project.iam.gserviceaccount.com"),
	"the account as a prefix": forbidden("email", oidctest.Email+".MARK.example.com"),
	"the account and a tag":   forbidden("email", "tasks+MARK@project.iam.gserviceaccount.com"),
	"the account and a space": forbidden("email", oidctest.Email+" "),
	"the account and a NUL":   forbidden("email", oidctest.Email+"\x00"),
	"a name and the account":  forbidden("email", "MARK <"+oidctest.Email+">"),
	"a Cyrillic а":            forbidden("email", "tаsks@project.iam.gserviceaccount.com"),
	"a wide @":                forbidden("email", "tasks＠project.iam.gserviceaccount.com"),
	"an invisible letter":     forbidden("email", "tasks\u200b@project.iam.gserviceaccount.com"),
	"bytes beyond UTF-8":      byText(handoff.ReasonCaller, `"tasks@`, "\"tasks\xff@").responding(http.StatusForbidden),
	"no email":                byClaims(handoff.ReasonEmail, "email", nil),
	"an array of emails":      byClaims(handoff.ReasonTokenMalformed, "email", []string{oidctest.Email}),
	"two emails":              byText(handoff.ReasonTokenMalformed, `"email":`, `"email":"MARK@example.com","email":`),
	"an unverified email":     byClaims(handoff.ReasonEmail, "email_verified", false),
	"an email not verified":   byClaims(handoff.ReasonEmail, "email_verified", nil),
	"verified as text":        byClaims(handoff.ReasonTokenMalformed, "email_verified", "true"),
	"verified as a number":    byClaims(handoff.ReasonTokenMalformed, "email_verified", 1),
	"verified and not":        byText(handoff.ReasonTokenMalformed, `"email_verified":`, `"email_verified":false,"email_verified":`),

	// The times.
	"expired by one second": timed(handoff.ReasonTokenExpired, func(now int64) []any { return []any{"exp", now - 1, "iat", now - 3601} }),
	"expired a year ago":    timed(handoff.ReasonTokenExpired, func(now int64) []any { return []any{"exp", now - 31536000, "iat", now - 31539600} }),
	"no expiry":             byClaims(handoff.ReasonTokenExpired, "exp", nil),
	"expiry zero":           byClaims(handoff.ReasonTokenMalformed, "exp", 0),
	"expiry negative":       byClaims(handoff.ReasonTokenMalformed, "exp", -1),
	"expiry null": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		return k.Token(strings.Replace(claimsOf("exp", 1), `"exp":1`, `"exp":null`, 1))
	}),
	"expiry as text":    byClaims(handoff.ReasonTokenMalformed, "exp", "4102444800"),
	"expiry as a float": byClaims(handoff.ReasonTokenMalformed, "exp", 4102444800.5),
	"expiry with an exponent": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		return k.Token(strings.Replace(claimsOf("exp", 1), `"exp":1`, `"exp":4e9`, 1))
	}),
	"expiry beyond float": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		return k.Token(strings.Replace(claimsOf("exp", 1), `"exp":1`, `"exp":1e400`, 1))
	}),
	"expiry beyond int64": byToken(handoff.ReasonTokenMalformed, func(k *oidctest.Key) string {
		return k.Token(strings.Replace(claimsOf("exp", 1), `"exp":1`, `"exp":9223372036854775808`, 1))
	}),
	"expiry at the very end": byClaims(handoff.ReasonLifetime, "exp", int64(1<<63-1)),
	"two expiries":           byText(handoff.ReasonTokenMalformed, `"exp":`, `"exp":1,"exp":`),
	"a life of ten years":    timed(handoff.ReasonLifetime, func(now int64) []any { return []any{"exp", now + 315360000} }),
	"a life of two hours":    timed(handoff.ReasonLifetime, func(now int64) []any { return []any{"exp", now + 3600, "iat", now - 3600} }),
	"issued in the future":   timed(handoff.ReasonNotYetValid, func(now int64) []any { return []any{"exp", now + 3900, "iat", now + 300} }),
	"never issued":           byClaims(handoff.ReasonLifetime, "iat", nil),
	"issued as a float":      byClaims(handoff.ReasonTokenMalformed, "iat", 1700000000.5),
	"not valid before later": timed(handoff.ReasonNotYetValid, func(now int64) []any { return []any{"nbf", now + 300} }),
	"not before as text":     byClaims(handoff.ReasonTokenMalformed, "nbf", "now"),

	// A good token, but no valid delivery.
	"no dispatch headers": knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Del("X-CloudTasks-QueueName"); r.Header.Del("X-CloudTasks-TaskName") }),
	"two task names":      knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Add("X-CloudTasks-TaskName", "MARK") }),
	"a path for a queue":  knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Set("X-CloudTasks-QueueName", "../MARK") }),
	"a task not in UTF-8": knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Set("X-CloudTasks-TaskName", "MARK\xff") }),
	"a huge task name":    knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Set("X-CloudTasks-TaskName", strings.Repeat("MARK", 1<<16)) }),
	"a negative count":    knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Set("X-CloudTasks-TaskRetryCount", "-1") }),
	"a malformed stamp":   knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Header.Set("Handoff-Expires", "MARK") }),
	"App Engine's headers": knowing(http.StatusBadRequest, "malformed", func(r *http.Request) {
		r.Header.Del("X-CloudTasks-QueueName")
		r.Header.Set("X-AppEngine-QueueName", "orders")
		r.Header.Set("X-AppEngine-TaskName", "1")
	}),
	"another method":  knowing(http.StatusBadRequest, "malformed", func(r *http.Request) { r.Method = http.MethodGet }),
	"an unknown kind": knowing(http.StatusNotFound, "unknown-kind", func(r *http.Request) { r.URL.Path = "/tasks/nobody" }),
	"a body over the limit": knowing(http.StatusRequestEntityTooLarge, "too-large", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", fortLimit+1))), fortLimit+1
	}),
	"a body of unsaid length": knowing(http.StatusRequestEntityTooLarge, "too-large", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", fortLimit+1))), -1
	}),
	"a gzip bomb": knowing(http.StatusRequestEntityTooLarge, "too-large", func(r *http.Request) {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(make([]byte, 10<<20))
		_ = w.Close()
		r.Header.Set("Content-Encoding", "gzip")
		r.Body, r.ContentLength = io.NopCloser(&b), int64(b.Len())
	}),
}

func (a attack) responding(status int) attack { a.status = status; return a }

// forbidden returns an attack with the valid token of another account.
func forbidden(changes ...any) attack {
	return byClaims(handoff.ReasonCaller, changes...).responding(http.StatusForbidden)
}

// timed returns an attack with claims that depend on the time.
func timed(reason handoff.Reason, changes func(now int64) []any) attack {
	return byToken(reason, func(*oidctest.Key) string { return claiming(changes(time.Now().Unix())...) })
}

func signable(header, claims string) string {
	return oidctest.Segment([]byte(header)) + "." + oidctest.Segment([]byte(claims))
}

// unsigned returns an attack with a token that has this header and, unchanged, this
// signature.
func unsigned(header, signature string) attack {
	return byToken(handoff.ReasonAlgorithm, func(k *oidctest.Key) string {
		return signable(strings.ReplaceAll(header, "KID", k.ID), oidctest.Claims(nil)) + "." + signature
	})
}

func hs256(key *oidctest.Key, secret []byte) string {
	signed := signable(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, key.ID), oidctest.Claims(nil))
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, signed)
	return signed + "." + oidctest.Segment(mac.Sum(nil))
}
