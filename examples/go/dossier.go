package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	traceability "example.com/partner/gen/pharmaloop/traceability/v1"
)

func dossier(connection *grpc.ClientConn, lot string, options Options) (int, error) {
	client := traceability.NewTraceabilityServiceClient(connection)
	answer, err := call(options, func(ctx context.Context) (*traceability.GetLotDossierResponse, error) {
		return client.GetLotDossier(ctx, &traceability.GetLotDossierRequest{Lot: lot})
	})
	if err != nil {
		return 2, err
	}
	found := answer.Dossier
	state, dispensed := found.GetProcess().GetState(), "no"
	if state == "" {
		state = "unknown"
	}
	if found.GetDistribution().GetDispensed() {
		dispensed = "yes"
	}
	material, exposed := found.GetMaterial(), found.GetExposed()
	fmt.Println("lot", found.Lot)
	fmt.Println("  state     ", state)
	fmt.Println("  dispensed ", dispensed)
	fmt.Printf("  made from  %d lots\n", int64(len(material.GetInputs()))+material.GetInputsLeftOut())
	fmt.Printf("  made into  %d lots\n", int64(len(material.GetOutputs()))+material.GetOutputsLeftOut())
	fmt.Printf("  runs       %d\n", int64(len(exposed.GetRuns()))+exposed.GetLeftOut())
	for _, step := range found.GetProcess().GetSteps() {
		why := ""
		if step.Why != "" {
			why = ": " + step.Why
		}
		fmt.Printf("  %s %s%s\n", stamp(step.At), step.What, why)
	}
	return 0, nil
}
