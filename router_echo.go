package handoff

import "github.com/labstack/echo/v4"

// Mount serves the router below g, a group of echo v4: POST <group>/<kind>.
// Middleware of the group runs around the whole delivery. In any other framework,
// mount the Router itself, which is an [http.Handler].
func (r *Router) Mount(g *echo.Group) {
	g.Any("/:kind", echo.WrapHandler(r))
}
