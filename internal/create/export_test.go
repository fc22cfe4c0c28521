package create

// EachTask is for the fuzz test of the reading of answers.
var EachTask = eachTask
