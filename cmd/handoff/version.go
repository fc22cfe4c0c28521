package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

type versionCmd struct {
	outputFlags
}

// versionJSON is the output of version. Version is "(devel)" and Revision the
// commit where it was built from a clone.
type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints what the build recorded.
func (c *versionCmd) Run(con *console) error {
	v := versionJSON{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = cmp.Or(info.Main.Version, v.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return con.describe(c.outputFlags, v,
		fact("handoff", v.Version),
		fact("revision", v.Revision),
		fact("built with", v.Go+" "+v.Platform),
	)
}
