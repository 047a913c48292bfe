// Prints a compose file as Compose itself reads it: variables replaced, anchors and merges resolved,
// short forms written out, as JSON.
//
//	loader FILE [PROFILE...]
//
// Variables come from the environment alone, never from a .env file. Exit status 1 with Compose's own
// message when the file can't be loaded.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func load(file string, profiles []string) ([]byte, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv, cli.WithProfiles(profiles))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: loader FILE [PROFILE...]")
		os.Exit(2)
	}
	text, err := load(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(append(text, '\n'))
}
