// Package aptmethod speaks the protocol by which apt asks a program for files (an acquire method, apt's
// doc/method.dbk): it reads messages from one stream, answers on another, and brings what they ask for.
//
// Indexes and small files come over one pipelined HTTP connection, as apt's own http method fetches them. Large files
// whose content is known by a digest are handed to an [Engine], and come that plain way if it fails. Whatever way a file
// took, what apt is told of it was computed from the file as it lies on disk.
package aptmethod
