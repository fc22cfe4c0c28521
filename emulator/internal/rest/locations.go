package rest

import (
	"context"

	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc"
)

// LocationsServiceDesc describes google.cloud.location.Locations. The generated
// package does not export its own description.
var LocationsServiceDesc = grpc.ServiceDesc{
	ServiceName: "google.cloud.location.Locations",
	HandlerType: (*location.LocationsServer)(nil),
	Methods: []grpc.MethodDesc{
		unary("google.cloud.location.Locations", "ListLocations", location.LocationsServer.ListLocations),
		unary("google.cloud.location.Locations", "GetLocation", location.LocationsServer.GetLocation),
	},
	Metadata: "google/cloud/location/locations.proto",
}

// unary returns the description that protoc-gen-go-grpc generates for a method.
func unary[S, Req, Resp any](service, name string, method func(S, context.Context, *Req) (*Resp, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := new(Req)
		if err := dec(in); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return method(srv.(S), ctx, in)
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/" + name}
		return interceptor(ctx, in, info, func(ctx context.Context, req any) (any, error) {
			return method(srv.(S), ctx, req.(*Req))
		})
	}}
}
