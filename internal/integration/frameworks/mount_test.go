package frameworks_test

import (
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	echo5 "github.com/labstack/echo/v5"
	echo5middleware "github.com/labstack/echo/v5/middleware"
)

// Settings of each framework's middleware, where it has such.
const (
	bodyLimit = 8 << 10 // bytes, above the router's MaxBody
	timeout   = 500 * time.Millisecond
)

// mounts serve a router below /tasks with the usual middleware of each framework:
// recover, request ID, decompress, a body limit, a timeout.
var mounts = map[string]func(*handoff.Router) http.Handler{
	"net/http": mountNetHTTP,
	"chi":      mountChi,
	"gin":      mountGin,
	"echo v4":  mountEcho4,
	"echo v5":  mountEcho5,
}

func mountNetHTTP(router *handoff.Router) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/tasks/", router)
	return requestID(recovered(http.TimeoutHandler(http.MaxBytesHandler(inflated(mux), bodyLimit), timeout, "")))
}

func mountChi(router *handoff.Router) http.Handler {
	r := chi.NewRouter()
	r.Use(chimiddleware.RequestID, chimiddleware.Recoverer, chimiddleware.RequestSize(bodyLimit), chimiddleware.Timeout(timeout), inflated)
	r.Mount("/tasks", router)
	return r
}

func mountGin(router *handoff.Router) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.RecoveryWithWriter(nil), func(c *gin.Context) {
		c.Header("X-Request-Id", "1")
		ctx, cancel := context.WithTimeout(c.Request.Context(), timeout)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, bodyLimit)
		c.Next()
	})
	engine.Any("/tasks/:kind", gin.WrapH(inflated(router)))
	return engine
}

func mountEcho4(router *handoff.Router) http.Handler {
	e := echo.New()
	e.Use(echomiddleware.RecoverWithConfig(echomiddleware.RecoverConfig{DisableStackAll: true, DisablePrintStack: true}),
		echomiddleware.RequestID(), echomiddleware.BodyLimit("8K"), echomiddleware.ContextTimeout(timeout), echomiddleware.Decompress())
	router.Mount(e.Group("/tasks"))
	return e
}

func mountEcho5(router *handoff.Router) http.Handler {
	e := echo5.New()
	e.Use(echo5middleware.Recover(), echo5middleware.RequestID(), echo5middleware.BodyLimit(bodyLimit),
		echo5middleware.ContextTimeout(timeout), echo5middleware.Decompress())
	e.Any("/tasks/:kind", echo5.WrapHandler(router))
	return e
}

// Middleware that users of net/http, among others, write themselves.

func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "1")
		next.ServeHTTP(w, r)
	})
}

func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// inflated decompresses the body and keeps Content-Encoding, as echo's Decompress
// does.
func inflated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, err := gzip.NewReader(r.Body)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			defer body.Close()
			r.Body = body
		}
		next.ServeHTTP(w, r)
	})
}

// earlyMounts serve a router behind a middleware of the framework that has already
// written the response.
var earlyMounts = map[string]func(r *handoff.Router, status int) http.Handler{
	"net/http": func(r *handoff.Router, status int) http.Handler { return recovered(written(status)(r)) },
	"chi": func(router *handoff.Router, status int) http.Handler {
		r := chi.NewRouter()
		r.Use(chimiddleware.Recoverer, chimiddleware.NewCompressor(5).Handler, written(status))
		r.Mount("/tasks", router)
		return r
	},
	"gin": func(router *handoff.Router, status int) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		engine := gin.New()
		engine.Use(func(c *gin.Context) {
			c.Status(status)
			c.Writer.WriteHeaderNow()
			c.Next()
		})
		engine.Any("/tasks/:kind", gin.WrapH(router))
		return engine
	},
	"echo v4": func(router *handoff.Router, status int) http.Handler {
		e := echo.New()
		e.Use(echomiddleware.Recover(), echomiddleware.Gzip())
		router.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				return errors.Join(c.NoContent(status), next(c))
			}
		}))
		return e
	},
	"echo v5": func(router *handoff.Router, status int) http.Handler {
		e := echo5.New()
		e.Use(echo5middleware.Recover(), func(next echo5.HandlerFunc) echo5.HandlerFunc {
			return func(c *echo5.Context) error {
				return errors.Join(c.NoContent(status), next(c))
			}
		})
		e.Any("/tasks/:kind", echo5.WrapHandler(router))
		return e
	},
}

func written(status int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			next.ServeHTTP(w, r)
		})
	}
}

// lateMounts serve a router behind a middleware that writes a 200 after it.
var lateMounts = map[string]func(*handoff.Router) http.Handler{
	"net/http": func(r *handoff.Router) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.ServeHTTP(w, req)
			w.WriteHeader(http.StatusOK)
		})
	},
	"gin": func(router *handoff.Router) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		engine := gin.New()
		engine.Use(func(c *gin.Context) {
			c.Next()
			c.String(http.StatusOK, "ok")
		})
		engine.Any("/tasks/:kind", gin.WrapH(router))
		return engine
	},
	"echo v4": func(router *handoff.Router) http.Handler {
		e := echo.New()
		router.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				return errors.Join(next(c), c.NoContent(http.StatusOK))
			}
		}))
		return e
	},
	"echo v5": func(router *handoff.Router) http.Handler {
		e := echo5.New()
		e.Use(func(next echo5.HandlerFunc) echo5.HandlerFunc {
			return func(c *echo5.Context) error {
				return errors.Join(next(c), c.NoContent(http.StatusOK))
			}
		})
		e.Any("/tasks/:kind", echo5.WrapHandler(router))
		return e
	},
}
