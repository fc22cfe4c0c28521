//go:build !race

package sql_test

const raceDetector = false
