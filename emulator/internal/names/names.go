// Package names parses resource names as the service does (docs/cloud-tasks.md#2).
package names

import "strings"

// Queue is projects/PROJECT/locations/LOCATION/queues/QUEUE in its parts.
type Queue struct{ Project, Location, ID string }

// SplitLocation splits projects/PROJECT/locations/LOCATION.
func SplitLocation(name string) (project, location string, ok bool) {
	rest, ok1 := strings.CutPrefix(name, "projects/")
	project, location, ok2 := strings.Cut(rest, "/locations/")
	ok = ok1 && ok2 && IsProject(project) && isLocation(location)
	return project, location, ok
}

// ParseQueue reads the full name of a queue.
func ParseQueue(name string) (Queue, bool) {
	parent, id, found := cutLast(name, "/queues/")
	project, location, ok := SplitLocation(parent)
	return Queue{project, location, id}, found && ok && IsQueueID(id)
}

// SplitTask splits the full name of a task into the name of its queue and its
// ID, without checking them.
func SplitTask(name string) (queue, id string, ok bool) {
	return cutLast(name, "/tasks/")
}

// Project returns the project of a name, even of a malformed one: the service
// resolves the project before it checks the rest.
func Project(name string) string {
	rest, ok := strings.CutPrefix(name, "projects/")
	if !ok {
		return name
	}
	project, _, _ := strings.Cut(rest, "/")
	return project
}

// InProject reports whether a name at least begins with a project and something in it.
func InProject(name string) bool {
	rest, ok := strings.CutPrefix(name, "projects/")
	project, _, more := strings.Cut(rest, "/")
	return ok && more && IsProject(project)
}

// IsQueueID reports whether id is a valid queue ID. Underscores are not allowed.
func IsQueueID(id string) bool {
	return len(id) <= 100 && all(id, func(c byte) bool { return isAlnum(c) || c == '-' })
}

// IsTaskID reports whether id is a valid task ID.
func IsTaskID(id string) bool {
	return len(id) <= 500 && all(id, func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' })
}

// IsProject reports whether s is a valid project ID.
func IsProject(s string) bool {
	return all(s, func(c byte) bool { return isAlnum(c) || c == '-' || c == ':' || c == '.' })
}

// The characters of locations are not documented; these occur in all existing
// ones.
func isLocation(s string) bool {
	return all(s, func(c byte) bool { return isAlnum(c) || c == '-' })
}

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// SplitQueue splits the full name of a queue into its location and its ID,
// without checking them.
func SplitQueue(name string) (location, id string, ok bool) {
	return cutLast(name, "/queues/")
}
