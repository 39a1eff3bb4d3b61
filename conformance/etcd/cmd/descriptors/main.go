// Command descriptors prints etcd's wire interface, as its Go modules carry it, as JSON on stdout:
// every message, enum and service of the five files that clients speak. test_descriptors.py builds
// the same structure from our own messages and compares.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/protobuf/reflect/protoreflect"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// Field is what of a field is visible on the wire or in JSON.
type Field struct {
	Number   int32  `json:"number"`
	Type     string `json:"type"`
	TypeName string `json:"type_name"` // of a message or enum, else empty
	Repeated bool   `json:"repeated"`
	Packed   bool   `json:"packed"`
	Presence bool   `json:"presence"` // unset and zero differ
	Oneof    string `json:"oneof"`
	JSONName string `json:"json_name"`
}

// Method is the signature of one RPC.
type Method struct {
	Input           string `json:"input"`
	Output          string `json:"output"`
	ClientStreaming bool   `json:"client_streaming"`
	ServerStreaming bool   `json:"server_streaming"`
}

// Interface maps full names to what they stand for, and in there short names to parts.
type Interface struct {
	Messages map[string]map[string]Field  `json:"messages"`
	Enums    map[string]map[string]int32  `json:"enums"`
	Services map[string]map[string]Method `json:"services"`
}

func main() {
	out := Interface{
		Messages: map[string]map[string]Field{},
		Enums:    map[string]map[string]int32{},
		Services: map[string]map[string]Method{},
	}
	for _, file := range []protoreflect.FileDescriptor{
		mvccpb.File_kv_proto,
		authpb.File_auth_proto,
		etcdserverpb.File_rpc_proto,
		v3lockpb.File_v3lock_proto,
		v3electionpb.File_v3election_proto,
	} {
		out.addMessages(file.Messages())
		out.addEnums(file.Enums())
		out.addServices(file.Services())
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, "descriptors:", err)
		os.Exit(1)
	}
}

func (out *Interface) addMessages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		fields := map[string]Field{}
		for j := range message.Fields().Len() {
			field := message.Fields().Get(j)
			fields[string(field.Name())] = describe(field)
		}
		out.Messages[string(message.FullName())] = fields
		out.addMessages(message.Messages())
		out.addEnums(message.Enums())
	}
}

func describe(field protoreflect.FieldDescriptor) Field {
	described := Field{
		Number:   int32(field.Number()),
		Type:     field.Kind().String(),
		Repeated: field.IsList(),
		Packed:   field.IsPacked(),
		Presence: field.HasPresence(),
		JSONName: field.JSONName(),
	}
	switch field.Kind() {
	case protoreflect.MessageKind:
		described.TypeName = string(field.Message().FullName())
	case protoreflect.EnumKind:
		described.TypeName = string(field.Enum().FullName())
	}
	if oneof := field.ContainingOneof(); oneof != nil {
		described.Oneof = string(oneof.Name())
	}
	return described
}

func (out *Interface) addEnums(enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		values := map[string]int32{}
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			values[string(value.Name())] = int32(value.Number())
		}
		out.Enums[string(enum.FullName())] = values
	}
}

func (out *Interface) addServices(services protoreflect.ServiceDescriptors) {
	for i := range services.Len() {
		service := services.Get(i)
		methods := map[string]Method{}
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			methods[string(method.Name())] = Method{
				Input:           string(method.Input().FullName()),
				Output:          string(method.Output().FullName()),
				ClientStreaming: method.IsStreamingClient(),
				ServerStreaming: method.IsStreamingServer(),
			}
		}
		out.Services[string(service.FullName())] = methods
	}
}
