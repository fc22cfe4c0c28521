package admin

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Load reads a file of queues in YAML, for [Queues.EnsureAll] and [Queues.Diff].
// Keys are the fields of a [QueueConfig] in the service's spelling, with the
// same defaults:
//
//	queues:
//	  - name: api-tasks
//	    max_dispatches_per_second: 100
//	    max_concurrent_dispatches: 500
//	    max_attempts: 5            # -1: no limit
//	    min_backoff: 1s
//	    max_backoff: 1h
//	    max_doublings: 16
//	    max_retry_duration: 0s     # 0s: no such limit
//	    task_ttl: 744h             # 240h (10 days) at least
//	    tombstone_ttl: 24h
//	    logging_sample: 0.1
//	    app_engine: {service: worker, version: v2, instance: i}
//	  - name: webhooks
//	    http_target:
//	      scheme: https
//	      host: worker.example.com
//	      port: 8443
//	      path: /tasks
//	      query: a=b
//	      if_not_exists: true
//	      method: POST
//	      headers: {X-Tenant: acme}
//	      service_account: caller@my-project.iam.gserviceaccount.com
//	      audience: https://worker.example.com   # or scope, for OAuth
//
// Anchors, aliases and merge keys work. A zero in a file means zero, not the
// default, so a zero that the service cannot store is an error.
//
// All problems are reported together, in the order of their lines: an unknown or
// repeated key, a value of the wrong type or out of range ([ErrInvalid]), a second
// queue with the same name.
func Load(r io.Reader) ([]QueueConfig, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("admin: load queues: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("admin: load queues: the file is over %d bytes", maxFile)
	}
	var file struct {
		Queues []yaml.Node `yaml:"queues"`
	}
	err = yaml.Load(data, &file, yaml.WithKnownFields())
	if err != nil && len(file.Queues) == 0 {
		return nil, errors.Join(inLines(err)...)
	}
	if len(file.Queues) == 0 {
		return nil, fmt.Errorf(`admin: load queues: %w: there is no queue; the file must begin with "queues:" and a list`, ErrInvalid)
	}
	configs, errs := configsOf(file.Queues)
	if err != nil {
		errs = append(inLines(err), errs...)
	}
	if len(errs) > 0 {
		slices.SortStableFunc(errs, byLine)
		return nil, errors.Join(errs...)
	}
	return configs, nil
}

// maxFile is far more than the thousand queues of a location need.
const maxFile = 16 << 20

// fileQueue is a queue in a file. Its fields are pointers, so that a zero
// differs from a missing key.
type fileQueue struct {
	Name                    string         `yaml:"name"`
	MaxDispatchesPerSecond  *float64       `yaml:"max_dispatches_per_second"`
	MaxConcurrentDispatches *int           `yaml:"max_concurrent_dispatches"`
	MaxAttempts             *int           `yaml:"max_attempts"`
	MinBackoff              *time.Duration `yaml:"min_backoff"`
	MaxBackoff              *time.Duration `yaml:"max_backoff"`
	MaxDoublings            *int           `yaml:"max_doublings"`
	MaxRetryDuration        time.Duration  `yaml:"max_retry_duration"`
	TaskTTL                 *time.Duration `yaml:"task_ttl"`
	TombstoneTTL            *time.Duration `yaml:"tombstone_ttl"`
	LoggingSample           float64        `yaml:"logging_sample"`
	HTTPTarget              *fileOverride  `yaml:"http_target"`
	AppEngine               *fileRouting   `yaml:"app_engine"`
}

type fileOverride struct {
	Scheme         string            `yaml:"scheme"`
	Host           string            `yaml:"host"`
	Port           int               `yaml:"port"`
	Path           *string           `yaml:"path"`
	Query          *string           `yaml:"query"`
	IfNotExists    bool              `yaml:"if_not_exists"`
	Method         string            `yaml:"method"`
	Headers        map[string]string `yaml:"headers"`
	ServiceAccount string            `yaml:"service_account"`
	Audience       string            `yaml:"audience"`
	Scope          string            `yaml:"scope"`
}

type fileRouting struct {
	Service  string `yaml:"service"`
	Version  string `yaml:"version"`
	Instance string `yaml:"instance"`
}

func (f *fileQueue) config() QueueConfig {
	c := QueueConfig{
		ID:                      f.Name,
		MaxDispatchesPerSecond:  value(f.MaxDispatchesPerSecond),
		MaxConcurrentDispatches: value(f.MaxConcurrentDispatches),
		MaxAttempts:             value(f.MaxAttempts),
		MinBackoff:              value(f.MinBackoff),
		MaxBackoff:              value(f.MaxBackoff),
		MaxDoublings:            value(f.MaxDoublings),
		MaxRetryDuration:        f.MaxRetryDuration,
		TaskTTL:                 value(f.TaskTTL),
		TombstoneTTL:            value(f.TombstoneTTL),
		LoggingSample:           f.LoggingSample,
	}
	if t := f.HTTPTarget; t != nil {
		c.HTTPTarget = &HTTPOverride{
			Scheme: t.Scheme, Host: t.Host, Port: t.Port, Path: t.Path, Query: t.Query, IfNotExists: t.IfNotExists,
			Method: t.Method, Headers: t.Headers, ServiceAccount: t.ServiceAccount, Audience: t.Audience, Scope: t.Scope,
		}
	}
	if r := f.AppEngine; r != nil {
		c.AppEngine = &AppEngineRouting{Service: r.Service, Version: r.Version, Instance: r.Instance}
	}
	return c
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// zeros returns the keys with an explicit zero, which in a QueueConfig would mean
// the default.
func (f *fileQueue) zeros() []string {
	var keys []string
	add := func(key string, zero bool) {
		if zero {
			keys = append(keys, key)
		}
	}
	add("max_dispatches_per_second", isZero(f.MaxDispatchesPerSecond))
	add("max_concurrent_dispatches", isZero(f.MaxConcurrentDispatches))
	add("max_attempts", isZero(f.MaxAttempts))
	add("min_backoff", isZero(f.MinBackoff))
	add("max_backoff", isZero(f.MaxBackoff))
	add("max_doublings", isZero(f.MaxDoublings))
	add("task_ttl", isZero(f.TaskTTL))
	add("tombstone_ttl", isZero(f.TombstoneTTL))
	return keys
}

func isZero[T comparable](p *T) bool {
	var zero T
	return p != nil && *p == zero
}

// configsOf decodes the queues of a file one by one, so that errors can name the
// line of each setting.
func configsOf(nodes []yaml.Node) (_ []QueueConfig, errs []error) {
	configs := make([]QueueConfig, len(nodes))
	first := make(map[string]int) // line of each name
	for i := range nodes {
		node := &nodes[i]
		var f fileQueue
		// Load decodes the valid fields even if it returns an error, so that they
		// are checked too.
		err := node.Load(&f, yaml.WithKnownFields())
		if err != nil {
			errs = append(errs, inLines(err)...)
		}
		undecoded := linesOf(err)
		fail := func(key string, problem error) {
			if line := lineOf(node, key); !undecoded[line] {
				errs = append(errs, &lineError{line, problem})
			}
		}
		if line, twice := first[f.Name]; twice {
			fail("name", &InvalidError{Field: "name", Value: f.Name, Want: fmt.Sprintf("another than that of the queue on line %d", line)})
		} else {
			first[f.Name] = lineOf(node, "name")
		}
		for _, key := range f.zeros() {
			want := "left out, which is our default, or another number: the service takes 0 for its own default"
			if key == "max_doublings" {
				want = wantDoublings
			}
			fail(key, &InvalidError{Field: key, Value: 0, Want: want})
		}
		configs[i] = f.config()
		config := resolve(configs[i])
		for _, problem := range problems(config.check()) {
			key := keyOf(problem.Field)
			fail(key, &InvalidError{Field: key, Value: problem.Value, Want: problem.Want})
		}
	}
	return configs, errs
}

// linesOf returns the lines of the errors of the YAML library.
func linesOf(err error) map[int]bool {
	lines := make(map[int]bool)
	if many, ok := errors.AsType[*yaml.LoadErrors](err); ok {
		for _, e := range many.Errors {
			lines[e.Mark.Line] = true
		}
	}
	return lines
}

// problems returns the errors that check has joined.
func problems(err error) []*InvalidError {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var all []*InvalidError
	for _, err := range joined.Unwrap() {
		all = append(all, err.(*InvalidError))
	}
	return all
}

// keyOf returns the key of a field in a file: http_target.port for
// QueueConfig.HTTPTarget.Port.
func keyOf(field string) string {
	field = strings.TrimPrefix(field, "QueueConfig.")
	field, sub, nested := strings.Cut(field, ".")
	if field == "ID" {
		return "name"
	}
	for _, s := range settings {
		if s.field == field {
			field = s.key
		}
	}
	if nested {
		field += "." + strings.ToLower(strings.Join(words.FindAllString(sub, -1), "_"))
	}
	return field
}

var words = regexp.MustCompile(`[A-Z][a-z]+`)

// lineOf returns the line of a key of a queue, or that of the queue if the key is
// missing.
func lineOf(node *yaml.Node, key string) int {
	line := node.Line
	for part := range strings.SplitSeq(key, ".") {
		name, value := member(node, part)
		if name == nil {
			break
		}
		node, line = value, name.Line
	}
	return line
}

// member returns a key of a mapping and its value. It follows aliases and
// merges.
func member(n *yaml.Node, key string) (name, value *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "<<" {
			continue
		}
		if name, value := member(n.Content[i+1], key); name != nil {
			return name, value
		}
	}
	return nil, nil
}

// inLines translates the errors of the YAML library to errors of this package, with
// their lines.
func inLines(err error) []error {
	many, ok := errors.AsType[*yaml.LoadErrors](err)
	if !ok {
		if one, ok := errors.AsType[*yaml.LoadError](err); ok {
			return []error{located(one.Mark.Line, "not YAML: "+one.Message)}
		}
		return []error{located(0, err.Error())}
	}
	var errs []error
	for _, e := range many.Errors {
		message := strings.TrimPrefix(e.Message, "yaml: ")
		for _, r := range rephrased {
			message = r.pattern.ReplaceAllString(message, r.by)
		}
		errs = append(errs, located(e.Mark.Line, message))
	}
	return errs
}

func located(line int, message string) error {
	if line == 0 {
		return fmt.Errorf("admin: load queues: %w: %s", ErrInvalid, message)
	}
	return &lineError{line, fmt.Errorf("%w: %s", ErrInvalid, message)}
}

// lineError is an error on a line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string {
	return fmt.Sprintf("admin: line %d: %s", e.line, strings.TrimPrefix(e.err.Error(), "admin: "))
}

func (e *lineError) Unwrap() error { return e.err }

// byLine compares errors by their lines, of which some have none.
func byLine(a, b error) int {
	line := func(err error) int {
		if e, ok := errors.AsType[*lineError](err); ok {
			return e.line
		}
		return 0
	}
	return line(a) - line(b)
}

// rephrased replaces Go types in errors: they mean nothing to the author of a
// file.
var rephrased = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`^field (.*) not found in type .*$`), `unknown key "$1"`},
	{regexp.MustCompile("^cannot construct !!\\w+ (`.*`) into time\\.Duration$"), `$1 is not a duration, such as 90s or 240h`},
	{regexp.MustCompile("^cannot construct !!\\w+ (`.*`) into float64$"), `$1 is not a number`},
	{regexp.MustCompile("^cannot construct !!\\w+ (`.*`) into int$"), `$1 is not a whole number`},
	{regexp.MustCompile("^cannot construct !!\\w+ (`.*`) into bool$"), `$1 is not true or false`},
	{regexp.MustCompile("^cannot construct !!\\w+ (`.*`) into string$"), `$1 is not text`},
	{regexp.MustCompile(`^cannot construct !!(\w+) (.*)into .*$`), `a $1 ${2}cannot stand here`},
}
