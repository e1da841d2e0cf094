import { BullModule } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import { RemindersModule } from './reminders/reminders.module';
import { SyncModule } from './sync/sync.module';

@Module({
  imports: [
    BullModule.forRootAsync({
      useFactory: () => ({
        connection: {
          host: process.env.REDIS_HOST || '127.0.0.1',
          port: Number(process.env.REDIS_PORT || 6379),
        },
      }),
    }),
    SyncModule,
    RemindersModule,
  ],
})
export class AppModule {}
