package main

import (
	"errors"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/agentry/agentry/examples/internal/toolserver"
)

// tools read the sample.
func tools(add toolserver.Add) error {
	data, err := loadSample()
	if err != nil {
		return err
	}
	namespace := mcp.WithString("namespace", mcp.Description("Nacos namespace, default public"))
	add(mcp.NewTool("list_configs", mcp.WithDescription("Lists the configs (dataId, group, type) of a namespace."), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			return data.configsIn(r.GetString("namespace", "public")), nil
		})
	add(mcp.NewTool("get_config", mcp.WithDescription("Reads one config's content by dataId and group."),
		mcp.WithString("dataId", mcp.Required(), mcp.Description("such as gateway.yaml")),
		mcp.WithString("group", mcp.Description("default DEFAULT_GROUP")), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			id, err := r.RequireString("dataId")
			if err != nil {
				return nil, err
			}
			ns, group := r.GetString("namespace", "public"), r.GetString("group", "DEFAULT_GROUP")
			c, ok := data.config(ns, group, id)
			if !ok {
				return nil, fmt.Errorf("no config %s in group %s of namespace %s; list_configs shows what there is", id, group, ns)
			}
			return c, nil
		})
	add(mcp.NewTool("list_services", mcp.WithDescription("Lists the names of the services registered in a namespace."), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			return data.servicesIn(r.GetString("namespace", "public")), nil
		})
	add(mcp.NewTool("get_service", mcp.WithDescription("Shows one service's instances and their health."),
		mcp.WithString("name", mcp.Required()), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			name, err := r.RequireString("name")
			if err != nil {
				return nil, err
			}
			v, ok := data.service(r.GetString("namespace", "public"), name)
			if !ok {
				return nil, errors.New("no service " + name)
			}
			return v, nil
		})
	return nil
}
