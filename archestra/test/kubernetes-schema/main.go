// Turns an OpenAPI 2 description in JSON into the protobuf form of it, which is the only one that kubectl reads.
package main

import (
	"io"
	"log"
	"os"

	openapi "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

func main() {
	description, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	document, err := openapi.ParseDocument(description)
	if err != nil {
		log.Fatal(err)
	}
	encoded, err := proto.Marshal(document)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(encoded); err != nil {
		log.Fatal(err)
	}
}
