// Package soakreal sends real packages from real accounts while recipients come and go as
// a real log says, with caps on, and holds what became of everybody to a program that
// shares nothing with the server but the words of its API. It consists of tests.
package soakreal
