package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed sample.json
var sampleJSON []byte

// sample is what the tools answer from.
type sample struct {
	Namespaces []string  `json:"namespaces"`
	Configs    []config  `json:"configs"`
	Services   []service `json:"services"`
}

type config struct {
	DataID    string `json:"dataId"`
	Group     string `json:"group"`
	Namespace string `json:"namespace"`
	Type      string `json:"type"`
	Content   string `json:"content,omitempty"`
}

type service struct {
	Name      string     `json:"name"`
	Group     string     `json:"group"`
	Namespace string     `json:"namespace"`
	Instances []instance `json:"instances"`
}

type instance struct {
	IP      string  `json:"ip"`
	Port    int     `json:"port"`
	Healthy bool    `json:"healthy"`
	Weight  float64 `json:"weight"`
}

func loadSample() (sample, error) {
	var s sample
	if err := json.Unmarshal(sampleJSON, &s); err != nil {
		return s, fmt.Errorf("embedded sample: %w", err)
	}
	return s, nil
}

// configsIn lists a namespace's configs without their content.
func (s sample) configsIn(namespace string) []config {
	out := []config{}
	for _, c := range s.Configs {
		if c.Namespace == namespace {
			c.Content = ""
			out = append(out, c)
		}
	}
	return out
}

func (s sample) config(namespace, group, dataID string) (config, bool) {
	for _, c := range s.Configs {
		if c.Namespace == namespace && c.Group == group && c.DataID == dataID {
			return c, true
		}
	}
	return config{}, false
}

func (s sample) servicesIn(namespace string) []string {
	out := []string{}
	for _, v := range s.Services {
		if v.Namespace == namespace {
			out = append(out, v.Name)
		}
	}
	return out
}

func (s sample) service(namespace, name string) (service, bool) {
	for _, v := range s.Services {
		if v.Namespace == namespace && v.Name == name {
			return v, true
		}
	}
	return service{}, false
}
