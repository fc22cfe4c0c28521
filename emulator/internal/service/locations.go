package service

import (
	"context"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/cloud/location"

	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// regions are what ListLocations returns, in order: regions in which Cloud
// Tasks is offered. GetLocation and queues take any location.
var regions = strings.Fields(`
	africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1 asia-south2
	asia-southeast1 asia-southeast2 australia-southeast1 australia-southeast2 europe-central2 europe-north1
	europe-southwest1 europe-west1 europe-west10 europe-west12 europe-west2 europe-west3 europe-west4 europe-west6
	europe-west8 europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2
	southamerica-east1 southamerica-west1 us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2
	us-west3 us-west4`)

func (s *Service) ListLocations(_ context.Context, req *location.ListLocationsRequest) (*location.ListLocationsResponse, error) {
	project, ok := strings.CutPrefix(req.GetName(), "projects/")
	if !ok || !names.IsProject(project) {
		return nil, errResource(req.GetName())
	}
	if req.GetFilter() != "" {
		return nil, invalid("The emulator does not filter locations.")
	}
	size, err := pageSize(req.GetPageSize(), len(regions))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	after := ""
	if req.GetPageToken() != "" {
		if after, err = s.pages.open(req.GetPageToken(), now, "locations", project); err != nil {
			return nil, err
		}
	}
	resp := new(location.ListLocationsResponse)
	for _, id := range regions {
		if id <= after {
			continue
		}
		if len(resp.Locations) == size {
			resp.NextPageToken = s.pages.seal(resp.Locations[size-1].GetLocationId(), now, "locations", project)
			break
		}
		resp.Locations = append(resp.Locations, locationView(project, id))
	}
	return resp, nil
}

func (s *Service) GetLocation(_ context.Context, req *location.GetLocationRequest) (*location.Location, error) {
	project, id, ok := names.SplitLocation(req.GetName())
	if !ok {
		return nil, errResource(req.GetName())
	}
	return locationView(project, id), nil
}

func locationView(project, id string) *location.Location {
	return &location.Location{
		Name:       "projects/" + project + "/locations/" + id,
		LocationId: id,
		Labels:     map[string]string{"cloud.googleapis.com/region": id},
	}
}
