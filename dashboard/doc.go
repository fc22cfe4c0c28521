// Package dashboard shows queues, tasks and dead letters in a browser, and lets
// people act on them: pause, resume and purge a queue, run or delete a task,
// redrive what is dead.
//
// A [Dashboard] is an [http.Handler] to be mounted in a server of yours, behind
// a check of who is asking:
//
//	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: a})
//	board, err := dashboard.New(dashboard.Config{
//		Source:      source,
//		DeadLetters: letters,
//		Client:      client, // redrives
//		Prefix:      "/ops/tasks",
//		Authorize:   func(r *http.Request) error { return staffOnly(r) },
//	})
//	http.Handle("/ops/tasks/", board)
//
// It reads one small interface, [Source]. [NewAdminSource] fills it from the
// API of Cloud Tasks; a Source that is an [Observer] too, as that of package
// emulatorsource is, adds what only a witness of the dispatches can know: every
// attempt, what became of the tasks that ended, charts. Where the source cannot
// see something, the page says so; nothing is drawn that was not observed.
//
// Pages are rendered on the server and can be read, and acted on, without
// JavaScript; with it they follow what happens. All of it is in this package:
// no page asks another host for anything.
//
// Safe by default: it cannot be made without a check of who is asking, unless
// it answers this machine alone; every change is protected from other sites;
// payloads are shown when asked for and no sooner, credentials in headers never.
package dashboard
