module memory3

go 1.19

require (
	google.golang.org/genproto v0.0.0-20201111145450-ac7456db90a6
	google.golang.org/grpc v1.33.3
	google.golang.org/protobuf v1.28.1
)
