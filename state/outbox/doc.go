// Package outbox is the relay.
package outbox
