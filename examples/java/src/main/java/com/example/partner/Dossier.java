package com.example.partner;

import io.grpc.ManagedChannel;
import pharmaloop.traceability.v1.Dossier.LotDossier;
import pharmaloop.traceability.v1.Dossier.ProcessStep;
import pharmaloop.traceability.v1.Service.GetLotDossierRequest;
import pharmaloop.traceability.v1.TraceabilityServiceGrpc;
import pharmaloop.traceability.v1.TraceabilityServiceGrpc.TraceabilityServiceBlockingStub;

/** Reads what is known of a lot. */
final class Dossier {
  private final TraceabilityServiceBlockingStub stub;

  Dossier(ManagedChannel channel, Partner.Options options) {
    this.stub = Calls.as(options.actor(), TraceabilityServiceGrpc.newBlockingStub(channel));
  }

  int run(String lot) throws Calls.Failed {
    GetLotDossierRequest asked = GetLotDossierRequest.newBuilder().setLot(lot).build();
    LotDossier found = Calls.call(stub, one -> one.getLotDossier(asked)).getDossier();
    String state = found.getProcess().getState();
    var material = found.getMaterial();
    var exposed = found.getExposed();
    System.out.printf("lot %s%n", found.getLot());
    System.out.printf("  state      %s%n", state.isEmpty() ? "unknown" : state);
    System.out.printf("  dispensed  %s%n", found.getDistribution().getDispensed() ? "yes" : "no");
    System.out.printf(
        "  made from  %d lots%n", material.getInputsCount() + material.getInputsLeftOut());
    System.out.printf(
        "  made into  %d lots%n", material.getOutputsCount() + material.getOutputsLeftOut());
    System.out.printf("  runs       %d%n", exposed.getRunsCount() + exposed.getLeftOut());
    for (ProcessStep step : found.getProcess().getStepsList()) {
      String why = step.getWhy().isEmpty() ? "" : ": " + step.getWhy();
      System.out.printf("  %s %s%s%n", Calls.stamp(step.getAt()), step.getWhat(), why);
    }
    return 0;
  }
}
