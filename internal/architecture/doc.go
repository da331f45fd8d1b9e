// Package architecture holds the rules of the house as tests: who may import whom, that every package says what it is for,
// and that only the command touches the process it runs in. ARCHITECTURE.md tells the reasons.
package architecture
