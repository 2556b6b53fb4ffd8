module kubernetes-schema

go 1.24

require (
	github.com/google/gnostic-models v0.6.9
	google.golang.org/protobuf v1.36.12
)

require gopkg.in/yaml.v3 v3.0.1 // indirect
