// Package seeder keeps finished files available to peers: a library of verified content that survives a crash at any moment, and
// a budget of what is given back. It speaks to no peer itself.
package seeder
