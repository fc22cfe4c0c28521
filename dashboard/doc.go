// Package dashboard shows queues, tasks and dead letters in a browser. A person
// can pause, resume and purge a queue, run or delete a task, and redrive or delete
// dead letters.
//
// A [Dashboard] is an [http.Handler]. Mount it in your server, with a function that
// authorizes its requests:
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
// It reads one small interface, [Source]. [NewAdminSource] returns one that reads
// the API of Cloud Tasks. A Source that is also an [Observer], such as that of
// package emulatorsource, has seen every dispatch. With it the pages also show each
// dispatch, how tasks ended, and charts. If the source cannot know something, the
// page says so.
//
// Pages are rendered on the server. They work without JavaScript; with it they
// update themselves. Everything they load is in this package, not on another host.
//
// It is safe by default: [New] requires Authorize, or Loopback for requests from
// this machine only. Every change is protected from cross-site requests. A payload
// is shown only when its reader asks for it, and credentials in headers never are.
package dashboard
