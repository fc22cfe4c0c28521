package sqlstore

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// inline puts the args into a statement, so that several statements can be sent
// in one message: parameters allow only one. Texts go as hexadecimal digits, so
// that no setting of the server changes what they say.
func inline(statement string, args ...any) string {
	var pairs []string
	for i, arg := range slices.Backward(args) { // $10 before $1
		pairs = append(pairs, "$"+strconv.Itoa(i+1), literal(arg))
	}
	return strings.NewReplacer(pairs...).Replace(statement)
}

func literal(arg any) string {
	switch arg := arg.(type) {
	case int64:
		return "(" + strconv.FormatInt(arg, 10) + ")"
	case string:
		return "convert_from(decode('" + hex.EncodeToString([]byte(arg)) + "', 'hex'), 'UTF8')"
	case []byte:
		if arg == nil {
			return "NULL"
		}
		return "decode('" + hex.EncodeToString(arg) + "', 'hex')"
	}
	panic(fmt.Sprintf("sqlstore: a literal of type %T", arg)) // the callers are in this package
}

// isolations are the words after BEGIN.
var isolations = map[sql.IsolationLevel]string{
	sql.LevelDefault:        "",
	sql.LevelReadCommitted:  " ISOLATION LEVEL READ COMMITTED",
	sql.LevelRepeatableRead: " ISOLATION LEVEL REPEATABLE READ",
	sql.LevelSerializable:   " ISOLATION LEVEL SERIALIZABLE",
}
