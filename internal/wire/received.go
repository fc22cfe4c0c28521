package wire

import (
	"net/http"
	"slices"
)

// TargetURL is the URL that the task was delivered to, as far as it can be seen
// behind a proxy that ends TLS.
func TargetURL(req *http.Request) string {
	scheme := "http"
	if req.TLS != nil || req.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + req.Host + req.URL.RequestURI()
}

// onTheWay are headers that the transport and the platform add to a request.
// They do not belong to the task, and Authorization belongs to nobody's store.
var onTheWay = map[string]bool{
	"Authorization": true, "X-Serverless-Authorization": true, "Cookie": true,
	"Accept-Encoding": true, "Content-Encoding": true, "Transfer-Encoding": true, "Connection": true,
	"Forwarded": true, "Via": true, "X-Forwarded-For": true, "X-Forwarded-Proto": true, "X-Forwarded-Host": true,
	"X-Cloud-Trace-Context": true,
}

// TaskHeader returns the headers that the producer put on the task, our stamp
// among them.
func TaskHeader(h http.Header) http.Header {
	own := make(http.Header)
	for name, values := range h {
		if IsStamp(name) || !onTheWay[name] && !IsReserved(name) {
			own[name] = values
		}
	}
	return own
}

// OwnHeader returns a copy of the headers that the producer put on the task
// itself: those of [TaskHeader] without our stamp.
func OwnHeader(h http.Header) http.Header {
	own := make(http.Header)
	for name, values := range h {
		if !onTheWay[name] && !IsReserved(name) {
			own[name] = slices.Clone(values)
		}
	}
	return own
}
