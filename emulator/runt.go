package emulator

// TB is what RunT needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// RunT starts a server for a test and closes it when the test ends. With no
// config it is the zero Config's: in memory, on no port, empty. It works in a
// testing/synctest bubble, where days of backoff take no time.
func RunT(t TB, config ...Config) *Server {
	t.Helper()
	var cfg Config
	switch len(config) {
	case 0:
	case 1:
		cfg = config[0]
	default:
		t.Fatalf("emulator: RunT was given %d configs, it takes one", len(config))
	}
	srv, err := New(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(srv.Close)
	return srv
}
