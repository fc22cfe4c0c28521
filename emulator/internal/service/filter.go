package service

import "cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

func parseFilter(text string) (func(*cloudtaskspb.Queue) bool, error) {
	if text != "" {
		return nil, invalid("Invalid filter.")
	}
	return func(*cloudtaskspb.Queue) bool { return true }, nil
}
