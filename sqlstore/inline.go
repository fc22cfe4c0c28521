package sqlstore

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// inline puts the args into a statement, so that several statements can be sent
// in one message: parameters allow only one.
func inline(statement string, args ...any) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(statement, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
		n, err := strconv.Atoi(after[:digits])
		if err != nil {
			panic("sqlstore: a $ that is no parameter in " + statement) // the statements are in this package
		}
		b.WriteString(literal(args[n-1]))
		statement = after[digits:]
	}
}

func literal(arg any) string {
	switch arg := arg.(type) {
	case int64:
		return "(" + strconv.FormatInt(arg, 10) + ")"
	case string:
		if plain(arg) {
			return "'" + arg + "'"
		}
		return "convert_from(decode('" + hex.EncodeToString([]byte(arg)) + "', 'hex'), 'UTF8')"
	case []byte:
		return "decode('" + hex.EncodeToString(arg) + "', 'hex')"
	}
	panic(fmt.Sprintf("sqlstore: a literal of type %T", arg)) // the callers are in this package
}

// plain reports whether a text in quotes says the same under every setting of the
// server, such as its encoding and whether a backslash escapes.
func plain(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '\'' || r == '\\' }) < 0
}

// isolations are the words after BEGIN.
var isolations = map[sql.IsolationLevel]string{
	sql.LevelDefault:        "",
	sql.LevelReadCommitted:  " ISOLATION LEVEL READ COMMITTED",
	sql.LevelRepeatableRead: " ISOLATION LEVEL REPEATABLE READ",
	sql.LevelSerializable:   " ISOLATION LEVEL SERIALIZABLE",
}
